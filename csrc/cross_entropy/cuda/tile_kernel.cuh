// The geometric-row kernel: loss and gradient of a tile of cells in two sweeps over the classes.
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

namespace fcn_ext {
namespace cross_entropy {

// Calls body(first class, number of classes, their staged scores) for all classes in turn, while
// the next ones are being copied. Every thread is past a barrier before each call and after the
// last.
template <typename Block, typename Body>
__device__ __forceinline__ void sweep(const Block& block, const Body& body) {
  const int32_t classes = block.args.terms.classes;
  float *staged = block.staged, *other = staged + kTileClasses * Block::kNodes;
#pragma unroll 1
  for (int32_t first = -kTileClasses; first < classes; first += kTileClasses) {
    const int32_t next = first + kTileClasses;
    __pipeline_wait_prior(0);
    __syncthreads();
    if (next < classes) {
      block.stage(next, smaller(kTileClasses, classes - next), other);
    }
    if (first >= 0) {
      body(first, smaller(kTileClasses, classes - first), staged);
    }
    float* const swapped = staged;
    staged = other;
    other = swapped;
  }
  __syncthreads();
}

// Pixels in block.exact: in double, with the pixel's own maximum. A thread takes every
// kTileThreads-th class. Returns the sum of their log-sums, weighted, in every thread.
template <typename Tile, bool with_gradient>
__device__ __forceinline__ double add_exact_pixels(const TileBlock<Tile, with_gradient>& block) {
  const TileArgs& args = block.args;
  const int32_t classes = args.terms.classes;
  double loss = 0;
  for (int owner = 0; owner < kTileThreads; ++owner) {
    for (unsigned long long left = block.exact[owner]; left != 0; left &= left - 1) {
      const int pixel = __ffsll(static_cast<long long>(left)) - 1;
      const int cell = owner / Tile::kLanes, segment = owner % Tile::kLanes;
      const int i = segment % Tile::kSegments * Tile::kSide + pixel % Tile::kSide;
      const int j = segment / Tile::kSegments * Tile::kSide + pixel / Tile::kSide;
      const double x = (i + 0.5) / Tile::kStride, y = (j + 0.5) / Tile::kStride;
      // Calls body(node, weight) for the four corners of the cell.
      const auto each_corner = [&](const auto& body) {
#pragma unroll 1
        for (int k = 0; k < 4; ++k) {
          body(block.corner_node(cell, k), (k / 2 == 0 ? 1 - y : y) * (k % 2 == 0 ? 1 - x : x));
        }
      };
      const auto score = [&](int32_t c) {
        double sum = 0;
        each_corner([&](int node, double weight) {
          if (block.input[node] != kNoNode) {
            const float value = score_at(args, block.input[node] + c * args.input_strides.channel);
            sum += weight * (static_cast<double>(value) - block.maxima[node]);
          }
        });
        return sum;
      };
      double most = -INFINITY;
      for (int32_t c = block.thread; c < classes; c += kTileThreads) {
        most = larger(most, score(c));
      }
      __syncthreads();
      block.scratch[block.thread] = most;
      __syncthreads();
      for (int k = 0; k < kTileThreads; ++k) {
        most = larger(most, block.scratch[k]);
      }
      double sum = 0;
      for (int32_t c = block.thread; c < classes; c += kTileThreads) {
        sum += std::exp(static_cast<float>(score(c) - most));
      }
      sum = block_sum(sum, block.scratch);
      const uint32_t label = block.codes[block.code_index(pixel, owner)];
      const double factor =
          args.terms.hard * args.terms.weight_of(static_cast<int32_t>(label)) + *block.all_smooth;
      loss += factor * (most + std::log(sum));
      if constexpr (with_gradient) {
        for (int32_t c = block.thread; c < classes; c += kTileThreads) {
          const double value = factor * std::exp(static_cast<float>(score(c) - most)) / sum;
          each_corner([&](int node, double weight) {
            if (float* gradient = block.destination(node, c)) {
              *gradient += static_cast<float>(weight * value);
            }
          });
        }
      }
    }
  }
  return loss;
}

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
        block.loss[block.thread] -=
            static_cast<double>(gradient) *
            (static_cast<double>(scores[k * Tile::kNodes + node]) - block.maxima[node]);
      }
    }
    return gradient;
  };
  const auto top_left_of = [](int cell) {
    return cell / Tile::kColumns * Tile::kNodeColumns + cell % Tile::kColumns;
  };
  const auto corners_of = [&](const float* scores, const float* maxima) {
    return Corners{scores[0] - maxima[0], scores[1] - maxima[1],
                   scores[Tile::kNodeColumns] - maxima[Tile::kNodeColumns],
                   scores[Tile::kNodeColumns + 1] - maxima[Tile::kNodeColumns + 1]};
  };

  float sum[Tile::kPixels];
#pragma unroll
  for (float& value : sum) {
    value = 0;
  }
  sweep(block, [&](int32_t first, int count, const float* staged) {
    const int top_left = top_left_of(block.cell());
    const Part<Tile> part = block.part();
    const float *scores = staged + top_left, *maxima = block.maxima + top_left;
    const float* const end = scores + count * Tile::kNodes;
    if (block.flags[0] != 0) {
#pragma unroll 1
      for (; scores < end; scores += Tile::kNodes) {
        add_powers_of_any_range(corners_of(scores, maxima), part, sum);
      }
    } else {
#pragma unroll 1
      for (; scores < end; scores += Tile::kNodes) {
        add_powers<Tile>(exponents(corners_of(scores, maxima), part), sum);
      }
    }
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
  constexpr int kGroup = Tile::kPixels < 8 ? Tile::kPixels : 8;
#pragma unroll
  for (int group = 0; group < Tile::kPixels; group += kGroup) {
    // Always so, but the compiler cannot load the labels of all groups ahead, into more registers
    // than there are.
    if (opaque(block.thread) >= 0) {
#pragma unroll
      for (int pixel = group; pixel < group + kGroup; ++pixel) {
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
        log_sums = fmaf(factor, log_of_normal(powers), log_sums);
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
      const int cell = block.cell(), lane = block.lane(), top_left = top_left_of(cell);
      const Part<Tile> part = block.part();
      const float *scores = staged + top_left, *maxima = block.maxima + top_left;
      const float* const end = scores + count * Tile::kNodes;
      float* to = block.corners + cell;
      const auto keep = [&](float (&corner)[4]) {
        if constexpr (Tile::kLanes == 1) {
#pragma unroll
          for (int which = 0; which < 4; ++which) {
            to[which * Tile::kCells] = corner[which];
          }
        } else {
          const int which = combine_lanes<Tile>(lane, corner);
          if (lane < 4) {
            to[which * Tile::kCells] = corner[0];
          }
        }
        to += Tile::kCornerPitch;
      };
      if (block.flags[0] != 0) {
#pragma unroll 1
        for (; scores < end; scores += Tile::kNodes) {
          float corner[4];
          corner_sums_of_any_range(corners_of(scores, maxima), part, sum, corner);
          keep(corner);
        }
      } else {
#pragma unroll 1
        for (; scores < end; scores += Tile::kNodes) {
          float corner[4];
          corner_sums(exponents(corners_of(scores, maxima), part), part, sum, corner);
          keep(corner);
        }
      }
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
    const double exact_loss = add_exact_pixels(block);
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
