// The probability of a label: the softmax of a pixel's logits at the label, 1 / (sum over classes
// of exp(logit - the label's logit)). NaN where softmax is NaN.
#pragma once

#include "argmax/cuda/direct.cuh"
#include "argmax/cuda/pixels.cuh"
#include "common/cuda/labels.cuh"
#include "common/logarithms.h"

namespace fcn_ext {
namespace argmax {

// exp(x) for x <= 0, to about 2 ulp.
__device__ __forceinline__ float exponential(float x) {
  return exp2_fast(static_cast<float>(kLog2E) * x);
}
__device__ __forceinline__ double exponential(double x) { return exp(x); }

__device__ __forceinline__ int64_t label_of(const void* labels, int type, int64_t pixel) {
  return with_labels(labels, type,
                     [&](const auto* map) { return static_cast<int64_t>(map[pixel]); });
}

// Sums the exponentials of all classes at some pixels, in registers. `careful`: outputs may lie on
// a node, beside scores of weight zero.
template <bool careful, int band>
__device__ __forceinline__ void sum_tile(const ArgmaxArgs& args, const Tile<float>& tile,
                                         const void* labels, int label_type, float* probability) {
  using Threads = CellThreads<band>;
  constexpr int kRows = Threads::kRows, kColumns = Threads::kColumns;
  const ArgmaxTiles& tiles = args.tiles;
  const auto channels = static_cast<int>(args.shape.channels);
  const int cells = tile.cell_rows() * tile.cell_columns();
  const int64_t width = args.shape.x.output_size;
  // Runs body(first class, classes) for every stage; all threads must call this.
  const auto each_stage = [&](const auto& body) {
    for (int first_class = 0; first_class < channels; first_class += tiles.staged) {
      const int classes = smaller(tiles.staged, channels - first_class);
      if (tiles.stages > 1) {
        restage_scores(args, tile, first_class, classes);
      }
      body(first_class, classes);
    }
  };
  if (tiles.stages == 1) {
    stage_scores(args, tile, 0, channels);
  }
  __syncthreads();
  for (int begin = 0; begin < cells * Threads::kAll; begin += kThreads) {
    const int unit = smaller(begin + static_cast<int>(threadIdx.x), cells * Threads::kAll - 1);
    const int cell = unit / Threads::kAll;
    const PixelPlace<float, band> place(tile, cell / tile.cell_columns(),
                                        cell % tile.cell_columns(), unit % Threads::kAll);
    const bool active =
        begin + static_cast<int>(threadIdx.x) < cells * Threads::kAll && !place.empty();
    const int64_t first_pixel =
        (tile.image * args.shape.y.output_size + tile.row_begin()[0] + place.y) * width +
        tile.column_begin()[0] + place.x;
    const auto inside = [&](int i, int j) { return i < place.columns && j < place.rows; };
    float best[kColumns][kRows], sum[kColumns][kRows];
    int32_t label[kColumns][kRows];
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
#pragma unroll
      for (int j = 0; j < kRows; ++j) {
        best[i][j] = sum[i][j] = 0;
        label[i][j] =
            active && inside(i, j)
                ? static_cast<int32_t>(label_of(labels, label_type, first_pixel + j * width + i))
                : -1;
      }
    }
    each_stage([&](int first_class, int classes) {
      if (!active) {
        return;
      }
      const PixelLogits<float, band> logits(tiles, tile, place);
#pragma unroll
      for (int i = 0; i < kColumns; ++i) {
#pragma unroll
        for (int j = 0; j < kRows; ++j) {
          const int staged = label[i][j] - first_class;
          if (staged >= 0 && staged < classes) {
            best[i][j] = logits.template at<careful>(staged, i, j);
          }
        }
      }
    });
    each_stage([&](int, int classes) {
      if (!active) {
        return;
      }
      const PixelLogits<float, band> logits(tiles, tile, place);
#pragma unroll 1
      for (int c = 0; c < classes; ++c) {
        logits.template each<careful>(
            c, [&](int i, int j, float value) { sum[i][j] += exponential(value - best[i][j]); });
      }
    });
#pragma unroll
    for (int j = 0; j < kRows; ++j) {
#pragma unroll
      for (int i = 0; i < kColumns; ++i) {
        if (active && inside(i, j)) {
          probability[first_pixel + j * width + i] = 1 / sum[i][j];
        }
      }
    }
  }
}

template <int band>
__global__ void __launch_bounds__(kThreads, kBlocks<float>)
    probability_tiles_kernel(const ArgmaxArgs args, const void* labels, int label_type,
                             float* probability) {
  each_tile<float, band>(args, [&](const Tile<float>& tile) {
    if (args.tiles.exact_nodes) {
      sum_tile<true, band>(args, tile, labels, label_type, probability);
    } else {
      sum_tile<false, band>(args, tile, labels, label_type, probability);
    }
  });
}

// One pixel per thread: reads its label and all of its scores, and writes its probability.
template <typename scalar_t>
__global__ void __launch_bounds__(kThreads, sizeof(scalar_t) == 8 ? 2 : kDirectBlocks)
    direct_probability_kernel(BilinearShape shape, const scalar_t* input, PlaneStrides strides,
                              confusion::PixelRows rows, const void* labels, int label_type,
                              accumulate_of<scalar_t>* probability) {
  using accumulate_t = accumulate_of<scalar_t>;
  confusion::each_piece(rows, [&](int64_t row, int64_t piece) {
    const int64_t image = row / rows.per_image, y = row % rows.per_image;
    const int64_t x = piece * kWarp + threadIdx.x % kWarp;
    if (x < rows.width) {
      const PixelScores<scalar_t> scores(shape, input, strides, image, y, x);
      const int64_t pixel = row * rows.width + x;
      const accumulate_t best = scores(label_of(labels, label_type, pixel));
      accumulate_t sum = 0;
#pragma unroll 4
      for (int64_t c = 0; c < shape.channels; ++c) {
        sum += exponential(scores(c) - best);
      }
      probability[pixel] = 1 / sum;
    }
  });
}

}  // namespace argmax
}  // namespace fcn_ext
