// Confusion counts on CUDA, from labels or from scores. Integers only: no order changes a result.
//
// A warp takes a piece of a pixel row, each lane the next few pixels of it (pixel_rows.cuh), and
// adds a count for every run of equal pixels (counter.cuh). Memory touched: every label and score
// once; of the matrix only the bins that occur.
#pragma once

#include <cmath>

#include "common/cuda/device.cuh"
#include "common/cuda/launch.cuh"
#include "confusion_matrix/cpu/count.h"
#include "confusion_matrix/cuda/counter.cuh"
#include "confusion_matrix/cuda/pixel_rows.cuh"

namespace fcn_ext {
namespace confusion {

constexpr int kMostThreads = 320;
constexpr int kResident = 2;  // blocks of so many threads that a multiprocessor has registers for
constexpr int kLabelsPerLane = 16;
constexpr int64_t kMostCopies = 8;
constexpr int64_t kCopiesBytes = 32 << 10;  // of all copies of a histogram
constexpr int64_t kSmallHistogram = 4 << 10;
constexpr int64_t kPixelsPerBlock = int64_t{1} << 30;  // so that a 32-bit bin cannot overflow

// ------------------------------------------------------------------ labels

// Each lane counts `count` pixels: 1, or kLabelsPerLane where both maps lie side by side in memory.
template <int count>
__global__ void __launch_bounds__(kMostThreads, kResident)
    count_labels_kernel(PixelRows rows, MapRows prediction, MapRows target, Counts counts) {
  const Counter counter(counts);
  each_piece(rows, [&](int64_t row, int64_t piece) {
    const int64_t prediction_offset = row_offset(rows, prediction, row);
    const int64_t target_offset = row_offset(rows, target, row);
    int64_t first = (piece * kWarp + threadIdx.x % kWarp) * count;
    if (count > 1) {
      // A boundary of the narrower labels is often one of the wider ones too.
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

// ------------------------------------------------------------------ scores

// Whether score a of channel i wins over score b of channel j: NaN is the greatest, the lowest
// channel wins a tie, as in torch.argmax.
template <typename accumulate_t>
__device__ __forceinline__ bool beats(accumulate_t a, int32_t i, accumulate_t b, int32_t j) {
  if (a != a) {
    return b == b || i < j;
  }
  return a > b || (a == b && i < j);
}

// The same for a later channel.
template <typename accumulate_t>
__device__ __forceinline__ bool later_beats(accumulate_t a, accumulate_t b) {
  return !(a <= b) && b == b;
}

// Each lane walks through the channels of its `count` pixels.
// With count > 1, pixels lie side by side in memory and every channel of a pixel as far from a
// 16-byte boundary as the first.
template <typename scalar_t, int count>
__global__ void __launch_bounds__(kMostThreads, kResident)
    count_planar_scores_kernel(PixelRows rows, MapRows scores, int64_t channel, MapRows target,
                               Counts counts) {
  using accumulate_t = accumulate_of<scalar_t>;
  constexpr int kAhead = count == 1 ? 8 : 4;  // channels on their way at a time
  const Counter counter(counts);
  each_piece(rows, [&](int64_t row, int64_t piece) {
    const scalar_t* start =
        static_cast<const scalar_t*>(scores.data) + row_offset(rows, scores, row);
    const int64_t first =
        (piece * kWarp + threadIdx.x % kWarp) * count - (count > 1 ? past_boundary(start) : 0);
    const bool whole = first >= 0 && first + count <= rows.width;
    uint32_t pixels[count], winners[count];
    load_labels(target, row_offset(rows, target, row), first, rows.width, counts.ignore_index,
                pixels);
    accumulate_t best[count];
#pragma unroll
    for (int k = 0; k < count; ++k) {
      best[k] = -HUGE_VAL;  // what wins over this, or does not, leaves the right winner
      winners[k] = 0;
    }
    if (whole) {
      const scalar_t* from = start + first * scores.column;
      for (int32_t c = 0; c < counts.num_classes; c += kAhead) {
        Vector<scalar_t, count> ahead[kAhead];
#pragma unroll
        for (int a = 0; a < kAhead; ++a) {
          // Behind the last channel comes the last again, which cannot win over itself.
          const int32_t from_channel = smaller(c + a, counts.num_classes - 1);
          ahead[a] = load_vector_streamed<count>(from + from_channel * channel);
        }
#pragma unroll
        for (int a = 0; a < kAhead; ++a) {
#pragma unroll
          for (int k = 0; k < count; ++k) {
            const auto value = static_cast<accumulate_t>(ahead[a].values[k]);
            const bool better = later_beats(value, best[k]);
            best[k] = better ? value : best[k];
            winners[k] = better ? static_cast<uint32_t>(c + a) : winners[k];
          }
        }
      }
    } else {
#pragma unroll
      for (int k = 0; k < count; ++k) {
        const int64_t x = first + k;
        if (x >= 0 && x < rows.width) {
          const scalar_t* from = start + x * scores.column;
          for (int32_t c = 0; c < counts.num_classes; ++c) {
            const auto value = static_cast<accumulate_t>(from[c * channel]);
            if (later_beats(value, best[k])) {
              best[k] = value;
              winners[k] = static_cast<uint32_t>(c);
            }
          }
        }
      }
    }
#pragma unroll
    for (int k = 0; k < count; ++k) {
      pixels[k] = pixels[k] << 16 | winners[k];
    }
    count_runs(counter, pixels);
  });
  counter.flush();
}

// Channels side by side in memory: `lanes` (8, 16 or 32) neighbouring lanes share the channels of a
// pixel, so that a warp reads 32 / lanes pixels at a time and 32 in `lanes` rounds.
template <typename scalar_t>
__global__ void __launch_bounds__(kMostThreads, kResident)
    count_interleaved_scores_kernel(PixelRows rows, MapRows scores, int lanes, MapRows target,
                                    Counts counts) {
  using accumulate_t = accumulate_of<scalar_t>;
  constexpr int kRounds = 4;  // at a time
  const Counter counter(counts);
  const int lane = threadIdx.x % kWarp;
  const int teams = kWarp / lanes;
  const int team = lane / lanes, lane_of_team = lane % lanes;
  const int kept_round = lane / teams, kept_lane = lane % teams * lanes;
  // A lane without a channel of its own takes the last one as well.
  const int32_t first_channel = smaller(lane_of_team, counts.num_classes - 1);
  each_piece(rows, [&](int64_t row, int64_t piece) {
    const scalar_t* start =
        static_cast<const scalar_t*>(scores.data) + row_offset(rows, scores, row);
    const int64_t first = piece * kWarp;
    uint32_t pixels[1];
    int32_t prediction = 0;
    load_labels(target, row_offset(rows, target, row), first + lane, rows.width,
                counts.ignore_index, pixels);
    for (int round = 0; round < lanes; round += kRounds) {
      const scalar_t* from[kRounds];
      accumulate_t best[kRounds];
      int32_t winner[kRounds];
#pragma unroll
      for (int r = 0; r < kRounds; ++r) {
        const int64_t x = first + (round + r) * teams + team;
        from[r] = start + smaller(x, rows.width - 1) * scores.column;
        best[r] = static_cast<accumulate_t>(from[r][first_channel]);
        winner[r] = first_channel;
      }
#pragma unroll 2
      for (int32_t c = lane_of_team + lanes; c < counts.num_classes; c += lanes) {
#pragma unroll
        for (int r = 0; r < kRounds; ++r) {
          const auto value = static_cast<accumulate_t>(from[r][c]);
          const bool better = later_beats(value, best[r]);
          best[r] = better ? value : best[r];
          winner[r] = better ? c : winner[r];
        }
      }
#pragma unroll
      for (int r = 0; r < kRounds; ++r) {
        for (int other = lanes / 2; other > 0; other /= 2) {
          const accumulate_t value = __shfl_xor_sync(kFullMask, best[r], other);
          const int32_t channel = __shfl_xor_sync(kFullMask, winner[r], other);
          const bool better = beats(value, channel, best[r], winner[r]);
          best[r] = better ? value : best[r];
          winner[r] = better ? channel : winner[r];
        }
        // Lane i keeps the winner of pixel i, found in round i / teams by team i % teams.
        const int32_t mine = __shfl_sync(kFullMask, winner[r], kept_lane);
        prediction = kept_round == round + r ? mine : prediction;
      }
    }
    pixels[0] = pixels[0] << 16 | static_cast<uint32_t>(prediction);
    count_runs(counter, pixels);
  });
  counter.flush();
}

// ------------------------------------------------------------------ launches

struct CountLaunch {
  unsigned blocks, threads;
  size_t shared_bytes;
};

// Cuts the rows into pieces of 32 * per_lane pixels and chooses the histogram and the grid.
inline CountLaunch plan(PixelRows& rows, int per_lane, Counts& counts) {
  const DeviceLimits limits = device_limits();
  const int64_t pixels = rows.count * rows.width;
  const int64_t bytes = 4 * (int64_t{counts.num_classes} * counts.num_classes + 1);
  const bool histogram = bytes <= limits.shared_bytes_per_block && bytes / 4 <= pixels;
  // Blocks are small, for small maps to reach every multiprocessor, unless a large histogram is
  // better shared by many threads. Warps that have no histogram of their own share one.
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

  // A row may begin anywhere in its first piece of per_lane pixels.
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

// Adds into matrix (num_classes, num_classes), rows = target, and into invalid the number of pixels
// whose target is not ignore_index and whose target or prediction lies outside [0, num_classes).
// All pointers are the device's; at least one pixel; num_classes at most 2^15.
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

// The same with the argmax of (N, C, H, W) scores, C = num_classes, as prediction.
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
