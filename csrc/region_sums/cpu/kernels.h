// The input of the CPU kernels of region_sums: raw pointers and ready-made tables.
#pragma once

#include "common/cpu/capability.h"
#include "region_sums/region_sums.h"
#include "softmax/cpu/work.h"

namespace fcn_ext {

struct RegionSumsWork {
  SoftmaxWork softmax;  // has a gradient in the backward pass
  RegionSums problem;
  bool squared;        // whether squares are wanted
  bool losses;         // whether the cross-entropy is wanted
  const void* weight;  // [classes + 1], in the accumulation type: w_c at [c + 1], zero first
  int64_t* invalid;    // the lowest index (n, y, x) of a label out of range, or INT64_MAX
  // Forward: what each unit found; the counts of all units are added up.
  double* sums;     // [units][3][classes]: probability, intersection, squared
  double* loss;     // [units]
  int64_t* counts;  // [images][classes]
  // Backward: the gradients A, B, 2 D and E in the accumulation type, [images][classes], E
  // [images]. grad_squared and grad_loss only if `squared` and `losses`.
  const void* grad_probability;
  const void* grad_intersection;
  const void* grad_squared;
  const void* grad_loss;
};

// scratch: the bytes of memory, aligned to 64, that a call of run needs. run: computes units
// [begin, end). Both are indexed by accumulation type: float, double.
struct RegionSumsKernels {
  int64_t (*scratch[2])(const RegionSumsWork&);
  void (*run[2])(const RegionSumsWork&, int64_t begin, int64_t end, void* scratch);
};

FCN_EXT_DECLARE_KERNELS(RegionSumsKernels, region_sums_kernels)

}  // namespace fcn_ext
