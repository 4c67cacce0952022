// Where a block's counts go, and how the lanes of a warp find them.
//
// Label maps are piecewise constant, so pixels are counted by runs of equal (target, prediction): a
// lane finds the runs among its own pixels, votes and a shuffle join those that continue in the
// next lanes, and each run takes one addition. Additions go to int32 histograms in shared memory,
// which a block adds to the int64 matrix once, at the end, or directly to the matrix if there is no
// histogram.
#pragma once

#include "common/cuda/device.cuh"

namespace fcn_ext {
namespace confusion {

// Classes are below 2^15, so a label takes 16 bits and a pixel 32, with its target above its
// prediction.
constexpr uint32_t kIgnored = 0xffff;
constexpr uint32_t kInvalid = 0xfffe;
constexpr int32_t kClassLimit = 1 << 15;

constexpr int32_t kNoBin = -1;

struct Counts {
  int32_t num_classes;
  int64_t ignore_index;
  int copies;  // of the histogram in shared memory; 0: none
  unsigned long long* matrix;
  unsigned long long* invalid;
  // `matrix` holds two numbers of pixels instead: those that count, and those of them whose
  // prediction is their target. Invalid pixels are in neither.
  bool hits = false;
};

// The number of bins, without the one after them for invalid pixels.
__host__ __device__ __forceinline__ int32_t bins_of(const Counts& counts) {
  return counts.hits ? 2 : counts.num_classes * counts.num_classes;
}

class Counter {
 public:
  __device__ __forceinline__ explicit Counter(const Counts& counts)
      : counts_(counts),
        dropped_(bins_of(counts)),
        ignored_(counts.ignore_index >= 0 && counts.ignore_index < kClassLimit
                     ? static_cast<uint32_t>(counts.ignore_index)
                     : kIgnored),
        shared_(shared_memory<unsigned>()) {
    const int warp = threadIdx.x / kWarp;
    own_ = counts.copies > 0 ? shared_ + warp % counts.copies * (dropped_ + 1) : nullptr;
  }

  // Every thread of the block must call this once, before anything is counted.
  __device__ __forceinline__ void clear() const {
    const int bins = counts_.copies * (dropped_ + 1);
    for (int bin = threadIdx.x; bin < bins; bin += blockDim.x) {
      shared_[bin] = 0;
    }
    __syncthreads();
  }

  // The bin of a pixel: in the matrix, the one after it if invalid, kNoBin if ignored.
  __device__ __forceinline__ int32_t bin(uint32_t pixel) const {
    const uint32_t target = pixel >> 16, prediction = pixel & 0xffff;
    if (target == ignored_ || target == kIgnored) {
      return kNoBin;
    }
    const auto classes = static_cast<uint32_t>(counts_.num_classes);
    if (target >= classes || prediction >= classes) {
      return counts_.hits ? kNoBin : dropped_;
    }
    if (counts_.hits) {
      return target == prediction ? kHit : kMiss;
    }
    return static_cast<int32_t>(target * classes + prediction);
  }

  __device__ __forceinline__ void add(int32_t bin, unsigned pixels) const {
    if (bin == kNoBin) {
      return;
    }
    if (own_ != nullptr) {
      atomicAdd(own_ + bin, pixels);
    } else {
      add_to_matrix(bin, pixels);
    }
  }

  // If hits are counted: whether a pixel with this target counts.
  __device__ __forceinline__ bool has_class(uint32_t target) const {
    return target < static_cast<uint32_t>(counts_.num_classes) && target != ignored_;
  }

  // Adds a lane's number of pixels that count, plus 2^16 times the number of hits among them; a
  // warp's numbers must be below 2^16. All lanes of a warp must call this.
  __device__ __forceinline__ void add_hits(unsigned pixels) const {
#pragma unroll
    for (int other = kWarp / 2; other > 0; other /= 2) {
      pixels += __shfl_xor_sync(kFullMask, pixels, other);
    }
    if (threadIdx.x % kWarp == 0) {
      const unsigned hits = pixels >> 16;
      add(kMiss, (pixels & 0xffff) - hits);
      add(kHit, hits);
    }
  }

  // Every thread of the block must call this once, after everything is counted.
  __device__ __forceinline__ void flush() const {
    __syncthreads();
    if (counts_.copies == 0) {
      return;
    }
    for (int bin = threadIdx.x; bin <= dropped_; bin += blockDim.x) {
      unsigned pixels = 0;
      for (int copy = 0; copy < counts_.copies; ++copy) {
        pixels += shared_[copy * (dropped_ + 1) + bin];
      }
      if (pixels > 0) {
        add_to_matrix(bin, pixels);
      }
    }
  }

 private:
  // A hit also counts as a pixel.
  static constexpr int32_t kMiss = 0, kHit = 1;

  __device__ __forceinline__ void add_to_matrix(int32_t bin, unsigned pixels) const {
    unsigned long long* to = bin < dropped_ ? counts_.matrix + bin : counts_.invalid;
    atomicAdd(to, static_cast<unsigned long long>(pixels));
    if (counts_.hits && bin == kHit) {
      atomicAdd(counts_.matrix + kMiss, static_cast<unsigned long long>(pixels));
    }
  }

  const Counts& counts_;
  int32_t dropped_;
  uint32_t ignored_;
  unsigned* shared_;
  unsigned* own_;
};

// Counts `count` neighboring pixels per lane; lanes follow each other along the row. A run is added
// by the lane in which it starts.
template <int count>
__device__ __forceinline__ void count_runs(const Counter& counter, const uint32_t (&pixel)[count]) {
  const int lane = threadIdx.x % kWarp;
  int32_t first_bin = kNoBin;
  unsigned first_pixels = count, pixels = 1;
  bool single = true;
#pragma unroll
  for (int k = 1; k < count; ++k) {
    if (pixel[k] == pixel[k - 1]) {
      ++pixels;
      continue;
    }
    const int32_t bin = counter.bin(pixel[k - 1]);
    if (single) {
      first_bin = bin;
      first_pixels = pixels;
      single = false;
    } else {
      counter.add(bin, pixels);
    }
    pixels = 1;
  }
  const int32_t last_bin = counter.bin(pixel[count - 1]);
  if (single) {
    first_bin = last_bin;
  }

  const bool continued = __shfl_up_sync(kFullMask, last_bin, 1) == first_bin && lane > 0;
  const unsigned continued_lanes = __ballot_sync(kFullMask, continued);
  const unsigned filled_lanes = __ballot_sync(kFullMask, continued && single);
  const unsigned after = lane == kWarp - 1 ? 0 : filled_lanes >> (lane + 1);
  const int filled = __ffs(static_cast<int>(~after)) - 1;
  const int end = lane + 1 + filled;
  const unsigned end_pixels = __shfl_sync(kFullMask, first_pixels, end % kWarp);
  if (!single && !continued) {
    counter.add(first_bin, first_pixels);
  }
  if (!(single && continued)) {
    pixels += static_cast<unsigned>(filled * count);
    if (end < kWarp && (continued_lanes >> end & 1) != 0) {
      pixels += end_pixels;
    }
    counter.add(last_bin, pixels);
  }
}

}  // namespace confusion
}  // namespace fcn_ext
