// The tile kernel: loss and gradient of a tile of cells in two sweeps over the classes.
//
// A thread owns up to 8 x 8 pixels of a cell. The first sweep sums the powers of all classes for
// each of its pixels; then the sums become log-sums for the loss and factors label weight / sum for
// the second sweep, whose products with the powers are added up to the corners of the cell, class
// by class, in registers. Labels never meet a pixel's scores: the weights that pixels of a class
// have at a node are whole numbers, added in shared memory in any order, and are subtracted at the
// nodes. Pixels whose sum vanishes beside the bound that the nodes' maxima give are computed again,
// one by one, by the whole block.
//
// Memory touched: the tile's scores once for the maxima, once a sweep; the labels; the gradient of
// the nodes inside, and of the tile's rim its part.
#pragma once

#include "cross_entropy/cuda/tile_labels.cuh"
#include "softmax/cuda/exact.cuh"
#include "softmax/cuda/sweeps.cuh"

namespace fcn_ext {
namespace cross_entropy {

template <typename Tile, bool with_gradient>
__global__ void __launch_bounds__(kTileThreads, Tile::kBlocks)
    cross_entropy_tile_kernel(const TileArgs args) {
  const TileBlock<Tile, with_gradient> block(args);
  const ClassTerms<float>& terms = args.terms;
  if (!block.has_pixels()) {
    block.find_nodes();
    __syncthreads();
    if (with_gradient) {
      for (int32_t first = 0; first < terms.classes; first += kTileClasses) {
        block.set_gradients(
            first, smaller(kTileClasses, terms.classes - first), [](int, int) { return 0.0f; },
            [](int, float* to, int64_t step) {
              for (int k = 0; k < kTileClasses; ++k) {
                to[k * step] = 0;
              }
            });
      }
    }
    if (block.thread == 0) {
      args.partials[blockIdx.x] = {0, 0};
    }
    return;
  }
  block.find_nodes();
  block.clear_sums();
  block.load_labels();
  __syncthreads();
  block.find_maxima();
  {
    const float all_smooth = smooth_total(terms, reinterpret_cast<float*>(block.scratch));
    if (block.thread == 0) {
      *block.all_smooth = all_smooth;
    }
  }

  block.note_labels();
  __syncthreads();

  // The part of labels and smoothing at a node: of the loss, and, returned, of the gradient.
  constexpr float kWeightUnit = 1.0f / (4 * Tile::kStride * Tile::kStride);
  const auto take_counts = [&](int32_t c, int k, int node, const float* scores) {
    const int count = block.counts[k * Tile::kNodes + node];
    float gradient = 0;
    if (count != 0 || (terms.smooth != 0 && block.valid[node] != 0)) {
      const float weight = terms.weight_of(c);
      if (count != 0) {
        block.counts[k * Tile::kNodes + node] = 0;
        gradient = terms.hard * weight * (static_cast<float>(count) * kWeightUnit);
      }
      if (terms.smooth != 0) {
        gradient += terms.smooth * weight * (static_cast<float>(block.valid[node]) * kWeightUnit);
      }
      if (block.input[node] != kNoNode) {
        const double difference =
            static_cast<double>(scores[k * Tile::kNodes + node]) - block.maxima[node];
        if (difference != 0) {  // or an infinite weight made it NaN
          block.loss[block.thread] -= static_cast<double>(gradient) * difference;
        }
      }
    }
    return gradient;
  };
  float sum[Tile::kPixels];
#pragma unroll
  for (float& value : sum) {
    value = 0;
  }
  sweep(block, [&](int32_t first, int count, const float* staged) {
    add_powers_of_stage(block, staged, count, sum);
    if constexpr (!with_gradient) {
      block.count_labels(first, count);
      __syncthreads();
      for (int e = block.thread; e < count * Tile::kNodes; e += kTileThreads) {
        take_counts(first + e / Tile::kNodes, e / Tile::kNodes, e % Tile::kNodes, staged);
      }
    }
  });

  float log_sums = 0;
  const float all_smooth = *block.all_smooth, unweighted = terms.hard + all_smooth;
  bool any_small = false;
  constexpr int kTogether = Tile::kPixels < 8 ? Tile::kPixels : 8;
#pragma unroll
  for (int first = 0; first < Tile::kPixels; first += kTogether) {
    // Always so, but the compiler cannot load the labels of all pixels ahead, into more registers
    // than there are.
    if (opaque(block.thread) >= 0) {
#pragma unroll
      for (int pixel = first; pixel < first + kTogether; ++pixel) {
        const uint32_t code = block.code_pair(pixel) >> (pixel % 2 * 16) & 0xffff;
        const bool small = sum[pixel] < kSmallestSum;
        const bool counts = code != kIgnoredCode && !small;
        any_small = any_small || small;
        float factor = unweighted;
        if (terms.weight != nullptr && code < kInvalidCode) {
          factor = fmaf(terms.hard, terms.weight[code], all_smooth);
        }
        factor = code == kInvalidCode ? not_a_number<float>() : factor;
        factor = counts ? factor : 0;
        const float powers = counts ? sum[pixel] : 1;
        log_sums = fmaf(factor, log_for(factor, log_of_normal(powers)), log_sums);
        sum[pixel] = small ? -INFINITY : factor * reciprocal_fast(powers);
      }
    }
  }
  unsigned long long exact = 0;
  if (any_small) {
#pragma unroll
    for (int pixel = 0; pixel < Tile::kPixels; ++pixel) {
      if (sum[pixel] == -INFINITY) {
        exact |= block.code(pixel) < kInvalidCode ? 1ull << pixel : 0;
        sum[pixel] = 0;
      }
    }
  }
  block.loss[block.thread] += static_cast<double>(log_sums);
  block.exact[block.thread] = exact;
  if (exact != 0) {
    block.flags[1] = 1;
  }

  if constexpr (with_gradient) {
    sweep(block, [&](int32_t first, int count, const float* staged) {
      sum_corners_of_stage(block, staged, count, sum);
      block.count_labels(first, count);
      __syncthreads();
      const auto labels_of = [&](int k, int node) {
        return take_counts(first + k, k, node, staged);
      };
      block.set_gradients(
          first, count,
          [&](int k, int node) { return block.sum_around(k, node) - labels_of(k, node); },
          [&](int node, float* to, int64_t step) {
            const Vector<uint16_t, 4> around = block.around[node];
            const float *a = block.corners + around.values[0],
                        *b = block.corners + around.values[1];
            const float *c = block.corners + around.values[2],
                        *d = block.corners + around.values[3];
#pragma unroll
            for (int k = 0; k < kTileClasses; ++k) {
              const int at = k * Tile::kCornerPitch;
              float value = (a[at] + b[at]) + (c[at] + d[at]);
              if (terms.smooth != 0 || block.counts[k * Tile::kNodes + node] != 0) {
                value -= labels_of(k, node);
              }
              *to = value;
              to += step;
            }
          });
    });
  }

  __syncthreads();
  double loss = block.loss[block.thread];
  if (block.flags[1] != 0) {
    const double exact_loss = add_exact_pixels(block, [&](int pixel, int owner) {
      const uint32_t label = block.codes[block.code_index(pixel, owner)];
      return terms.hard * terms.weight_of(static_cast<int32_t>(label)) + *block.all_smooth;
    });
    loss += block.thread == 0 ? exact_loss : 0;
  }
  loss = block_sum(loss, block.scratch);
  const double weight_sum =
      block_sum(static_cast<double>(block.weights[block.thread]), block.scratch);
  if (block.thread == 0) {
    args.partials[blockIdx.x] = {loss, weight_sum};
  }
}

}  // namespace cross_entropy
}  // namespace fcn_ext
