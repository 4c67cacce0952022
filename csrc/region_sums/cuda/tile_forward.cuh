// The region sums of a tile of cells in two sweeps over the classes, as in the cross-entropy. Not
// for squared probabilities.
//
// A thread owns up to 8 x 8 pixels of a cell. The first sweep sums the powers of all classes for
// each of its pixels; the second adds up each class's powers over those sums. If a pixel's sum
// vanishes beside the bound from the nodes' maxima, the whole block computes the pixel again.
//
// Memory touched: the tile's scores, once for the maxima and once per sweep; the labels; one part
// of the sums per class.
#pragma once

#include "region_sums/cuda/parts.cuh"
#include "region_sums/cuda/tile_block.cuh"

namespace fcn_ext {
namespace region_sums {

struct TileForward {
  TileArgs tile;
  bool losses;
  double* sums;           // [tiles][kRows][classes]
  BlockLoss* block_loss;  // [tiles]
};

// After the labels' shared memory: per staged class and thread, the number of the thread's pixels
// with that label and the sum of their probabilities.
template <typename Tile>
constexpr int kOwnBytes = 2 * 4 * Tile::kClasses * Tile::kThreads;

template <typename Tile>
__global__ void __launch_bounds__(Tile::kThreads, 2)
    region_sums_tile_kernel(const TileForward args) {
  const RegionBlock<Tile> block(args.tile);
  const int32_t classes = args.tile.terms.classes;
  const int thread = block.thread, warp = thread / kWarp, lane = thread % kWarp;
  double* const to = args.sums + static_cast<int64_t>(blockIdx.x) * kRows * classes;
  if (!block.begin()) {
    for (int32_t k = thread; k < kRows * classes; k += Tile::kThreads) {
      to[k] = 0;
    }
    if (thread == 0 && args.losses) {
      args.block_loss[blockIdx.x] = {0, 0};
    }
    return;
  }
  auto* own =
      reinterpret_cast<float*>(shared_memory<unsigned char>() +
                               (cross_entropy::LabelShared<Tile, true>::kBytes + 15) / 16 * 16);

  float inverse[Tile::kPixels];
#pragma unroll
  for (float& value : inverse) {
    value = 0;
  }
  sweep(block, [&](int32_t, int count, const float* staged) {
    add_powers_of_stage(block, staged, count, inverse);
  });
  float log_sums = 0;
  bool any_small = false;
#pragma unroll
  for (int j = 0; j < Tile::kSide; ++j) {
    if (opaque(block.thread) >= 0) {  // labels of one row at a time
      const auto codes = block.row_codes(j);
#pragma unroll
      for (int i = 0; i < Tile::kSide; ++i) {
        float& pixel = inverse[j * Tile::kSide + i];
        const uint32_t code = codes[i];
        const bool small = pixel < kSmallestSum;
        const bool counts = code != kIgnoredCode && !small;
        const float powers = counts ? pixel : 1;
        any_small = any_small || small;
        if (args.losses && counts) {
          const float weight = code < kInvalidCode
                                   ? args.tile.terms.weight_of(static_cast<int32_t>(code))
                                   : not_a_number<float>();
          log_sums = fmaf(weight, log_for(weight, log_of_normal(powers)), log_sums);
        }
        pixel = small ? -INFINITY : counts ? reciprocal_fast(powers) : 0;
        pixel = code == kInvalidCode ? not_a_number<float>() : pixel;
      }
    }
  }
  block.note_exact(any_small, inverse);
  block.loss[thread] += static_cast<double>(log_sums);

  sweep(block, [&](int32_t first, int count, const float* staged) {
    sum_corners_of_stage(block, staged, count, inverse);
    const unsigned labels = block.labels_among(first, count);
#pragma unroll 1
    for (int k = 0; k < count; ++k) {
      float intersection = 0, pixels = 0;
      if ((labels >> k & 1) != 0) {
        const auto code = static_cast<uint32_t>(first + k);
        const OwnValues<Tile, RegionBlock<Tile>> own_values{block, code, inverse};
        float corner[4];
        corner_sums_of_class(block, staged + k * Tile::kSlots, own_values, corner);
        intersection = (corner[0] + corner[1]) + (corner[2] + corner[3]);
#pragma unroll
        for (int pixel = 0; pixel < Tile::kPixels; ++pixel) {
          pixels += own_values.is_own(pixel) ? 1 : 0;
        }
        if (args.losses && block.flags[0] == 0) {
          const auto weights = block.weights_of(code);
          block.take_from_loss(first + k, block.worth_of(weights, [&](int, int slot) {
            return staged[k * Tile::kSlots + slot] - block.maxima[slot];
          }));
        }
      }
      own[k * Tile::kThreads + thread] = intersection;
      own[(Tile::kClasses + k) * Tile::kThreads + thread] = pixels;
    }
    __syncthreads();
    for (int k = warp; k < count; k += Tile::kThreads / kWarp) {
      float values[3] = {0, 0, 0};  // by RegionSum
      for (int at = lane; at < 4 * Tile::kCells; at += kWarp) {
        values[kProbability] += block.corners[k * Tile::kCornerPitch + at];
      }
      for (int at = lane; at < Tile::kThreads; at += kWarp) {
        values[kIntersection] += own[k * Tile::kThreads + at];
        values[kCount] += own[(Tile::kClasses + k) * Tile::kThreads + at];
      }
#pragma unroll
      for (int row = 0; row < 3; ++row) {
        const float sum = sum_over_warp(values[row]);
        if (lane == row) {
          to[static_cast<int64_t>(row) * classes + first + k] = static_cast<double>(sum);
        }
      }
    }
  });
  if (args.losses && block.flags[0] != 0) {
    block.take_labels_exactly();
  }
  __syncthreads();
  double loss = block.loss[thread];
  if (block.flags[1] != 0) {
    each_exact_pixel(block, [&](const auto& pixel, double most, double sum) {
      const int32_t label = block.label_of(pixel);
      for (int32_t c = thread; c < classes; c += Tile::kThreads) {
        const double p = std::exp(static_cast<float>(pixel.score(c) - most)) / sum;
        to[kProbability * classes + c] += p;
        if (c == label) {
          to[kIntersection * classes + c] += p;
        }
      }
      if (args.losses && thread == pixel.owner) {
        // The label's part is in the loss already.
        const double weight = static_cast<double>(args.tile.terms.weight_of(label));
        loss += weight * log_for(weight, most + std::log(sum));
      }
    });
  }
  if (args.losses) {
    loss = block_sum(loss, block.scratch);
    const double weight = block_sum(static_cast<double>(block.weights[thread]), block.scratch);
    if (thread == 0) {
      args.block_loss[blockIdx.x] = {loss, weight};
    }
  }
}

}  // namespace region_sums
}  // namespace fcn_ext
