// What the CPU kernels of region_sums are handed: raw pointers and ready-made tables.
#pragma once

#include "common/cpu/capability.h"
#include "region_sums/region_sums.h"
#include "softmax/cpu/work.h"

namespace fcn_ext {

struct RegionSumsWork {
  SoftmaxWork softmax;  // with a gradient: the backward pass
  RegionSums problem;
  bool squared;        // squares count
  bool losses;         // the cross-entropy counts
  const void* weight;  // [classes + 1], accumulation type: w_c at [c + 1], zero first
  int64_t* invalid;    // the lowest index (n, y, x) of a label out of range, or INT64_MAX
  // Forward: what each unit found, and counts, which are added up.
  double* sums;     // [units][3][classes]: probability, intersection, squared
  double* loss;     // [units]
  int64_t* counts;  // [images][classes]
  // Backward: the gradients A, B, 2 D and E, accumulation type. [images][classes], E [images];
  // that of `squared` and E where these count.
  const void* grad_probability;
  const void* grad_intersection;
  const void* grad_squared;
  const void* grad_loss;
};

// scratch: bytes of memory, aligned to 64, that a call of run needs. run: units [begin, end).
// Indexed by accumulation type: float, double.
struct RegionSumsKernels {
  int64_t (*scratch[2])(const RegionSumsWork&);
  void (*run[2])(const RegionSumsWork&, int64_t begin, int64_t end, void* scratch);
};

FCN_EXT_DECLARE_KERNELS(RegionSumsKernels, region_sums_kernels)

}  // namespace fcn_ext
