// Confusion counts from scores: the class of each pixel is found and counted, but never stored.
#pragma once

#include <cmath>

#include "confusion_matrix/cuda/counter.cuh"
#include "confusion_matrix/cuda/pixel_rows.cuh"

namespace fcn_ext {
namespace confusion {

constexpr int kMostThreads = 320;
constexpr int kResident = 2;  // blocks of kMostThreads that a multiprocessor has registers for

// Whether score a of channel i beats score b of channel j: NaN is the greatest, and the lowest
// channel wins a tie, as in torch.argmax.
template <typename accumulate_t>
__device__ __forceinline__ bool beats(accumulate_t a, int32_t i, accumulate_t b, int32_t j) {
  if (a != a) {
    return b == b || i < j;
  }
  return a > b || (a == b && i < j);
}

// beats() for a channel of a that comes after b's.
template <typename accumulate_t>
__device__ __forceinline__ bool later_beats(accumulate_t a, accumulate_t b) {
  return !(a <= b) && b == b;
}

// Each lane loops over the channels of its `count` pixels. If count > 1, pixels are contiguous, and
// all channels of a pixel are equally far from a 16-byte boundary.
template <typename scalar_t, int count>
__global__ void __launch_bounds__(kMostThreads, kResident)
    count_planar_scores_kernel(PixelRows rows, MapRows scores, int64_t channel, MapRows target,
                               Counts counts) {
  using accumulate_t = accumulate_of<scalar_t>;
  constexpr int kAhead = count == 1 ? 8 : 4;  // channels whose loads are in flight at once
  const Counter counter(counts);
  counter.clear();
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
      best[k] = -HUGE_VAL;  // the winner is right whether or not a score beats this
      winners[k] = 0;
    }
    if (whole) {
      const scalar_t* from = start + first * scores.column;
      for (int32_t c = 0; c < counts.num_classes; c += kAhead) {
        Vector<scalar_t, count> ahead[kAhead];
#pragma unroll
        for (int a = 0; a < kAhead; ++a) {
          // Past the last channel, load it again: it cannot beat itself.
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

// For adjacent channels: `lanes` (8, 16 or 32) neighboring lanes share the channels of a pixel, so
// that a warp reads 32 / lanes pixels at a time, and 32 pixels in `lanes` rounds.
template <typename scalar_t>
__global__ void __launch_bounds__(kMostThreads, kResident)
    count_interleaved_scores_kernel(PixelRows rows, MapRows scores, int lanes, MapRows target,
                                    Counts counts) {
  using accumulate_t = accumulate_of<scalar_t>;
  constexpr int kRounds = 4;  // at a time
  const Counter counter(counts);
  counter.clear();
  const int lane = threadIdx.x % kWarp;
  const int teams = kWarp / lanes;
  const int team = lane / lanes, lane_of_team = lane % lanes;
  const int kept_round = lane / teams, kept_lane = lane % teams * lanes;
  // A lane without a channel of its own takes the last one.
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

}  // namespace confusion
}  // namespace fcn_ext
