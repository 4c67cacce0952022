// Confusion counts of plain arrays on CPU: what the torch operator and the NumPy function share.
#pragma once

#include <cstdint>
#include <functional>

#include "common/labels.h"

namespace fcn_ext {

// One (N, C, H, W) score map. type: 0 float, 1 double, 2 half, 3 bfloat16.
struct LogitsMap {
  const void* data;
  int type;
  int64_t channels;
  int64_t stride[4];
};

// Calls body(begin, end) on pieces of [0, count), perhaps at the same time.
using ParallelFor = std::function<void(int64_t count, int64_t grain,
                                       const std::function<void(int64_t, int64_t)>& body)>;

// Adds into matrix (num_classes, num_classes), rows = target; returns the number of pixels whose
// target is not ignore_index and whose target or prediction lies outside [0, num_classes).
int64_t count_labels(const LabelShape& shape, const LabelMap& prediction, const LabelMap& target,
                     int64_t num_classes, int64_t ignore_index, int64_t* matrix,
                     const ParallelFor& parallel_for);
int64_t count_logits(const LabelShape& shape, const LogitsMap& logits, const LabelMap& target,
                     int64_t num_classes, int64_t ignore_index, int64_t* matrix,
                     const ParallelFor& parallel_for);

}  // namespace fcn_ext
