// Confusion counts on CUDA, from labels or from scores. All are integers, so no order changes them.
//
// A warp takes a piece of a pixel row, each lane the next few pixels of it (pixel_rows.cuh), and
// adds one count for every run of equal pixels (counter.cuh). Memory touched: every label and score
// once; of the matrix only the bins that occur.
#pragma once

#include "common/cuda/device.cuh"
#include "common/cuda/launch.cuh"
#include "confusion_matrix/cpu/count.h"
#include "confusion_matrix/cuda/counter.cuh"
#include "confusion_matrix/cuda/pixel_rows.cuh"
#include "confusion_matrix/cuda/scores.cuh"

namespace fcn_ext {
namespace confusion {

constexpr int kLabelsPerLane = 16;
constexpr int64_t kMostCopies = 8;
constexpr int64_t kCopiesBytes = 32 << 10;  // for all copies of a histogram
constexpr int64_t kSmallHistogram = 4 << 10;
constexpr int64_t kPixelsPerBlock = int64_t{1} << 30;  // so that a 32-bit bin cannot overflow

// ------------------------------------------------------------------ labels

// Each lane counts `count` pixels: kLabelsPerLane if the rows of both maps are contiguous, else 1.
template <int count>
__global__ void __launch_bounds__(kMostThreads, kResident)
    count_labels_kernel(PixelRows rows, MapRows prediction, MapRows target, Counts counts) {
  const Counter counter(counts);
  counter.clear();
  each_piece(rows, [&](int64_t row, int64_t piece) {
    const int64_t prediction_offset = row_offset(rows, prediction, row);
    const int64_t target_offset = row_offset(rows, target, row);
    int64_t first = (piece * kWarp + threadIdx.x % kWarp) * count;
    if (count > 1) {
      // A boundary of the narrower labels is often one of the wider labels, too.
      first -= prediction.type <= target.type ? labels_past_boundary(prediction, prediction_offset)
                                              : labels_past_boundary(target, target_offset);
    }
    uint32_t pixels[count], predictions[count];
    load_labels(prediction, prediction_offset, first, rows.width, counts.ignore_index, predictions);
    load_labels(target, target_offset, first, rows.width, counts.ignore_index, pixels);
#pragma unroll
    for (int k = 0; k < count; ++k) {
      pixels[k] = pixels[k] << 16 | predictions[k];
    }
    count_runs(counter, pixels);
  });
  counter.flush();
}

// ------------------------------------------------------------------ launches

struct CountLaunch {
  unsigned blocks, threads;
  size_t shared_bytes;
};

// Divides rows into pieces of 32 * per_lane pixels and chooses the histogram and the grid.
inline CountLaunch plan(PixelRows& rows, int per_lane, Counts& counts) {
  const DeviceLimits limits = device_limits();
  const int64_t pixels = rows.count * rows.width;
  const int64_t bytes = 4 * (int64_t{counts.num_classes} * counts.num_classes + 1);
  const bool histogram = bytes <= limits.shared_bytes_per_block && bytes / 4 <= pixels;
  // Blocks are small, so that small maps reach every multiprocessor, unless a large histogram is
  // better shared by many threads. Warps without a histogram of their own share one.
  const int64_t threads = histogram && bytes > kSmallHistogram ? kMostThreads : kMostThreads / 2;
  const int64_t warps = threads / kWarp;
  const int64_t copies =
      larger<int64_t>(1, smaller(smaller(kMostCopies, warps), kCopiesBytes / bytes));
  counts.copies = histogram ? static_cast<int>(copies) : 0;
  const int64_t shared_bytes = counts.copies * bytes;
  const int64_t by_threads = kResident * kMostThreads / threads;
  const int64_t resident =
      histogram
          ? larger<int64_t>(1, smaller(by_threads, limits.shared_bytes_per_block / shared_bytes))
          : by_threads;

  // A row may begin anywhere in its first per_lane pixels.
  rows.pieces = (rows.width + per_lane - 1 + kWarp * per_lane - 1) / (kWarp * per_lane);
  const int64_t needed = (rows.count * rows.pieces + warps - 1) / warps;
  const int64_t blocks = larger(smaller(needed, limits.multiprocessors * resident),
                                (pixels + kPixelsPerBlock - 1) / kPixelsPerBlock);
  rows.step_rows = blocks * warps / rows.pieces;
  rows.step_pieces = blocks * warps % rows.pieces;
  return {static_cast<unsigned>(smaller(blocks, kMostBlocks)), static_cast<unsigned>(threads),
          static_cast<size_t>(shared_bytes)};
}

inline Counts counts_of(int64_t num_classes, int64_t ignore_index, int64_t* matrix,
                        int64_t* invalid) {
  return {static_cast<int32_t>(num_classes), ignore_index, 0,
          reinterpret_cast<unsigned long long*>(matrix),
          reinterpret_cast<unsigned long long*>(invalid)};
}

template <typename scalar_t>
void launch_count_scores(const LabelShape& shape, const LogitsMap& logits, const LabelMap& target,
                         Counts counts, cudaStream_t stream) {
  MapRows scores{logits.data, logits.type, 0, 0, 0}, targets{target.data, target.type, 0, 0, 0};
  PixelRows rows = pixel_rows(shape,
                              {{logits.stride[0], logits.stride[2], logits.stride[3]},
                               {target.stride[0], target.stride[1], target.stride[2]}},
                              scores, targets);
  constexpr int kVector = 16 / sizeof(scalar_t);
  const int64_t channel = logits.stride[1];
  const auto run = [&](auto kernel, int per_lane, auto layout) {
    const CountLaunch grid = plan(rows, per_lane, counts);
    launch(kernel, dim3(grid.blocks), dim3(grid.threads), grid.shared_bytes, stream, rows, scores,
           layout, targets, counts);
  };
  if (scores.column == 1 && targets.column == 1 &&
      (channel % kVector == 0 || logits.channels == 1)) {
    run(count_planar_scores_kernel<scalar_t, kVector>, kVector, channel);
  } else if (channel == 1 && logits.channels >= 4) {
    const int lanes = logits.channels <= 32 ? 8 : logits.channels <= 64 ? 16 : 32;
    run(count_interleaved_scores_kernel<scalar_t>, 1, lanes);
  } else {
    run(count_planar_scores_kernel<scalar_t, 1>, 1, channel);
  }
}

}  // namespace confusion

// Adds counts to matrix (num_classes, num_classes), rows = target, and to invalid the number of
// pixels whose target is not ignore_index and whose target or prediction is outside [0,
// num_classes). All pointers are to device memory; at least one pixel; num_classes at most 2^15.
inline void launch_count_labels(const LabelShape& shape, const LabelMap& prediction,
                                const LabelMap& target, int64_t num_classes, int64_t ignore_index,
                                int64_t* matrix, int64_t* invalid, cudaStream_t stream) {
  using namespace confusion;
  MapRows predictions{prediction.data, prediction.type, 0, 0, 0};
  MapRows targets{target.data, target.type, 0, 0, 0};
  PixelRows rows = pixel_rows(shape,
                              {{prediction.stride[0], prediction.stride[1], prediction.stride[2]},
                               {target.stride[0], target.stride[1], target.stride[2]}},
                              predictions, targets);
  Counts counts = counts_of(num_classes, ignore_index, matrix, invalid);
  const auto run = [&](auto kernel, int per_lane) {
    const CountLaunch grid = plan(rows, per_lane, counts);
    launch(kernel, dim3(grid.blocks), dim3(grid.threads), grid.shared_bytes, stream, rows,
           predictions, targets, counts);
  };
  if (predictions.column == 1 && targets.column == 1) {
    run(count_labels_kernel<kLabelsPerLane>, kLabelsPerLane);
  } else {
    run(count_labels_kernel<1>, 1);
  }
}

// launch_count_labels() with the argmax of scores (N, C, H, W), C = num_classes, as prediction.
inline void launch_count_logits(const LabelShape& shape, const LogitsMap& logits,
                                const LabelMap& target, int64_t ignore_index, int64_t* matrix,
                                int64_t* invalid, cudaStream_t stream) {
  using namespace confusion;
  const Counts counts = counts_of(logits.channels, ignore_index, matrix, invalid);
  switch (logits.type) {
    case 0:
      return launch_count_scores<float>(shape, logits, target, counts, stream);
    case 1:
      return launch_count_scores<double>(shape, logits, target, counts, stream);
    case 2:
      return launch_count_scores<c10::Half>(shape, logits, target, counts, stream);
    default:
      return launch_count_scores<c10::BFloat16>(shape, logits, target, counts, stream);
  }
}

}  // namespace fcn_ext
