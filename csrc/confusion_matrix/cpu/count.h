// Confusion counts of plain arrays on CPU, shared by the torch operator and the NumPy function.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

#include "common/labels.h"

namespace fcn_ext {

// One (N, C, H, W) score map. type: 0 float, 1 double, 2 half, 3 bfloat16.
struct LogitsMap {
  const void* data;
  int type;
  int64_t channels;
  int64_t stride[4];
};

// Calls body(begin, end) on pieces of [0, count), possibly concurrently.
using ParallelFor = std::function<void(int64_t count, int64_t grain,
                                       const std::function<void(int64_t, int64_t)>& body)>;

// The byte counts that the counters of one call leave. With many bins, adding them to the matrix in
// each thread would cost more than the counting.
class ByteCounts {
 public:
  // Called by any thread: takes the bytes of its counter, a multiple of eight of them.
  void take(std::vector<uint8_t> bytes);
  // Called when all threads are done: adds the first `bins` to the matrix, which nobody else uses.
  void add_to(int64_t* matrix, int64_t bins, const ParallelFor& parallel_for);

 private:
  std::mutex mutex_;
  std::vector<std::vector<uint8_t>> taken_;
};

// A thread's counts: in a histogram of its own if that pays, else directly in the matrix, by atomic
// additions of integers.
class PixelCounter {
 public:
  // `pixels`: about how many there will be.
  PixelCounter(int64_t num_classes, int64_t ignore_index, int64_t* matrix, int64_t pixels);
  // Counts n pixels with contiguous labels; types as in LabelMap.
  void count(const void* prediction, int prediction_type, const void* target, int target_type,
             int64_t n);
  // Counts a row of contiguous predictions against a row of a target with any strides.
  void count_against(const void* prediction, int prediction_type, const LabelMap& target,
                     int64_t image, int64_t row, int64_t width);
  // Adds all counts to the matrix and the number of out-of-range pixels to `invalid`, atomically,
  // except for the counts that go to `bytes`.
  void finish(int64_t* invalid, ByteCounts& bytes);

 private:
  void add(int64_t bin, int64_t pixels);
  void flush();

  int64_t num_classes_, ignore_index_;
  int64_t* matrix_;
  int64_t invalid_ = 0, pixels_ = 0;
  std::vector<uint32_t> histogram_;
  std::vector<uint8_t> bytes_;
};

// Adds counts to matrix (num_classes, num_classes), rows = target. Returns the number of pixels
// whose target is not ignore_index and whose target or prediction is outside [0, num_classes).
int64_t count_labels(const LabelShape& shape, const LabelMap& prediction, const LabelMap& target,
                     int64_t num_classes, int64_t ignore_index, int64_t* matrix,
                     const ParallelFor& parallel_for);
int64_t count_logits(const LabelShape& shape, const LogitsMap& logits, const LabelMap& target,
                     int64_t num_classes, int64_t ignore_index, int64_t* matrix,
                     const ParallelFor& parallel_for);

}  // namespace fcn_ext
