// The tile kernel: loss and gradient of a tile of cells in two sweeps over the classes; also the
// losses of its pixels, or the gradient of losses that each have a derivative of their own.
//
// A thread owns up to 8 x 8 pixels of a cell, or all of two cells of up to 4 x 4, one above the
// other. The first sweep sums the powers of all classes for each of its pixels. The sums become
// log-sums for the loss, and factors label weight / sum for the second sweep, which multiplies them
// by the powers and adds up the products at the corners of the cells, class by class, in registers.
// Labels and scores do not meet pixel by pixel: for each class, the weights of the thread's pixels
// with that label are subtracted from the class's sums at the corners. If a pixel's sum vanishes
// beside the bound from the nodes' maxima, the whole block computes the pixel again.
//
// Memory touched: the tile's scores, once for the maxima and once per sweep; the labels; the
// gradient of the nodes inside, and the tile's part of its rim's. What must follow all blocks of a
// launch, or all neighbors of a tile, is done by the last of these blocks (softmax/cuda/rims.cuh).
#pragma once

#include "cross_entropy/cuda/tile_losses.cuh"
#include "softmax/cuda/rims.cuh"
#include "softmax/cuda/sweeps.cuh"

namespace fcn_ext {
namespace cross_entropy {

// Sets to zero the gradient of a tile that has no pixel of the output.
template <typename Tile, bool with_gradient>
__device__ __forceinline__ void clear_gradients(const TileBlock<Tile, with_gradient>& block) {
  const TileArgs& args = block.args;
  block.find_nodes();
  __syncthreads();
  if (with_gradient) {
    for (int32_t first = 0; first < args.terms.classes; first += Tile::kClasses) {
      block.set_gradients(first, smaller(Tile::kClasses, args.terms.classes - first),
                          [](int, int, float) { return 0.0f; });
    }
  }
}

// The loss of an exact pixel, from its log-sum times its factor.
template <typename Tile, bool with_gradient>
__device__ __forceinline__ double exact_loss(const TileBlock<Tile, with_gradient>& block,
                                             const ExactPixel<Tile, with_gradient>& pixel,
                                             int32_t label, double log_sum) {
  const ClassTerms<float>& terms = block.args.terms;
  const auto less = [&](double factor, double score) {
    log_sum -= score != 0 ? factor * score : 0;
  };
  less(terms.hard * terms.weight_of(label), pixel.score(label));
  if (terms.smooth != 0) {
    pixel.each_corner(
        [&](int node, double weight) { less(terms.smooth, weight * block.smoothed[node]); });
  }
  return log_sum;
}

// For pixels that all have the same factor if they count: returns the sum of their log-sums and
// replaces each sum by `factor` over it.
template <typename Tile, bool with_gradient>
__device__ __forceinline__ float logs_and_factors(const TileBlock<Tile, with_gradient>& block,
                                                  float factor, float (&sum)[Tile::kOwnPixels]) {
  float logs = 0, product = 1;
#pragma unroll
  for (int j = 0; j < Tile::kHeight; ++j) {
    if (opaque(block.thread) >= 0) {  // always true, see visit_tile
      const auto codes = block.row_codes(j);
#pragma unroll
      for (int i = 0; i < Tile::kSide; ++i) {
        float& pixel = sum[j * Tile::kSide + i];
        const bool counts = codes[i] != kIgnoredCode;
        product *= counts ? pixel : 1;
        pixel = factor * reciprocal_fast(counts ? pixel : INFINITY);
        // One logarithm for four pixels.
        if ((j * Tile::kSide + i) % 4 == 3) {
          logs += log_of_normal(product);
          product = 1;
        }
      }
    }
  }
  return logs;
}

// Computes a tile up to its end; returns the block's part of the loss to its first thread.
template <typename Tile, bool with_gradient>
__device__ __forceinline__ PartialLoss visit_tile(const TileBlock<Tile, with_gradient>& block) {
  const TileArgs& args = block.args;
  const ClassTerms<float>& terms = args.terms;
  block.find_cells();
  __syncthreads();
  if (!block.has_pixels()) {
    clear_gradients(block);
    return {0, 0};
  }
  block.load_labels();
  block.find_nodes();
  __syncthreads();
  block.find_maxima();
  {
    const float all_smooth = smooth_total(terms, reinterpret_cast<float*>(block.scratch));
    if (block.thread < kWarp) {
      const float scale = with_gradient ? mean_scale<float>(args.totals) : 1;
      if (block.thread == 0) {
        *block.all_smooth = all_smooth;
        *block.scale = scale;
      }
    }
  }
  if (terms.smooth != 0) {
    __syncthreads();
    block.find_smoothed();
    __syncthreads();
  }
  block.note_labels();
  if (with_gradient && terms.smooth != 0) {
    __syncthreads();
    block.find_valid();
  }
  __syncthreads();

  const int busy = opaque(block.is_idle() ? 0 : -1);
  float sum[Tile::kOwnPixels];
#pragma unroll
  for (float& value : sum) {
    value = 0;
  }
  sweep(block, [&](int32_t first, int count, const float* staged) {
    add_powers_of_stage(block, staged, count & busy, sum);
    if constexpr (!with_gradient) {
      block.take_labels(first, count, staged);
    }
  });

  float log_sums = 0;
  const float all_smooth = *block.all_smooth, unweighted = terms.hard + all_smooth;
  const float scale = *block.scale;
  bool any_small = false;
  if (busy == 0) {
    // The sums are zero, and so are the factors.
  } else if (block.has_one_factor(sum)) {
    log_sums = unweighted * logs_and_factors(block, unweighted * scale, sum);
  } else {
#pragma unroll
    for (int j = 0; j < Tile::kHeight; ++j) {
      // Always true, but keeps the compiler from loading the labels of all pixels ahead, into more
      // registers than there are.
      if (opaque(block.thread) >= 0) {
        const auto codes = block.row_codes(j);
#pragma unroll
        for (int i = 0; i < Tile::kSide; ++i) {
          float& pixel = sum[j * Tile::kSide + i];
          const uint32_t code = codes[i];
          const bool small = pixel < kSmallestSum;
          const bool counts = code != kIgnoredCode && !small;
          any_small = any_small || small;
          float factor = unweighted;
          if (terms.weight != nullptr && code < kInvalidCode) {
            factor = fmaf(terms.hard, terms.weight[code], all_smooth);
          }
          factor = code == kInvalidCode ? not_a_number<float>() : factor;
          factor = counts ? factor : 0;
          const float powers = counts ? pixel : 1;
          const float log_sum = log_for(factor, log_of_normal(powers));
          if (!with_gradient && args.losses != nullptr) {
            block.finish_loss(j, i, code, factor, log_sum);
          } else {
            log_sums = fmaf(factor, log_sum, log_sums);
          }
          if (with_gradient && args.grad_output != nullptr && counts) {
            factor *= block.grad_output(j, i);
          }
          pixel = small ? -INFINITY : factor * scale * reciprocal_fast(powers);
        }
      }
    }
  }
  unsigned long long exact = 0;
  if (any_small) {
#pragma unroll
    for (int pixel = 0; pixel < Tile::kOwnPixels; ++pixel) {
      if (sum[pixel] == -INFINITY) {
        const uint32_t code = block.code(pixel / Tile::kSide, pixel % Tile::kSide);
        exact |= code < kInvalidCode ? 1ull << pixel : 0;
        sum[pixel] = 0;
      }
    }
  }
  block.loss[block.thread] += static_cast<double>(log_sums);
  block.exact[block.owner()] = exact;
  if (exact != 0) {
    block.flags[1] = 1;
  }

  if constexpr (with_gradient) {
    if (busy == 0) {
      block.clear_corners();
    }
    sweep_back(block, [&](int32_t first, int count, const float* staged) {
      sum_corners_of_stage(block, staged, count & busy, sum);
      block.take_labels(first, count, staged);
      __syncthreads();
      if (terms.smooth == 0) {
        block.set_gradients(first, count, [&](int, int, float sum) { return sum; });
      } else {
        block.set_gradients(first, count, [&](int k, int node, float sum) {
          const float valid = block.valid[node];
          return valid == 0 ? sum : sum - terms.smooth * terms.weight_of(first + k) * valid;
        });
      }
    });
  }

  if (block.flags[0] != 0) {
    block.take_labels_exactly();
  }
  __syncthreads();
  double loss = block.loss[block.thread];
  if (block.flags[1] != 0) {
    const auto label_of = [&](const auto& pixel) {
      const int index = block.code_index(pixel.j, pixel.i, pixel.owner);
      return static_cast<int32_t>(block.codes[index]);
    };
    add_exact_pixels(
        block, *block.scale,
        [&](const auto& pixel) {
          const double factor = terms.hard * terms.weight_of(label_of(pixel)) + *block.all_smooth;
          return args.grad_output == nullptr ? factor
                                             : factor * args.grad_output[block.offset_of(pixel)];
        },
        [&](const auto& pixel, double log_sum) {
          if (block.owner() != pixel.owner) {
            return;
          }
          if (!with_gradient && args.losses != nullptr) {
            args.losses[block.offset_of(pixel)] =
                static_cast<float>(exact_loss(block, pixel, label_of(pixel), log_sum));
          } else {
            loss += log_sum;
          }
        });
  }
  if (args.finish.partials == nullptr) {
    return {0, 0};
  }
  loss = block_sum(loss, block.scratch);
  return {loss, block_sum(static_cast<double>(block.weights[block.thread]), block.scratch)};
}

template <typename Tile, bool with_gradient>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocks)
    cross_entropy_tile_kernel(const TileArgs args) {
  const TileBlock<Tile, with_gradient> block(args);
  const PartialLoss part = visit_tile(block);
  const bool has_loss = args.finish.partials != nullptr;
  if (has_loss && block.thread == 0) {
    args.finish.partials[blockIdx.x] = part;
  }
  if (with_gradient || has_loss) {
    leave_tile(block, has_loss, args.finish);
  }
}

}  // namespace cross_entropy
}  // namespace fcn_ext
