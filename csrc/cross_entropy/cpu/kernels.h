// The input of the CPU kernels of the cross-entropy: raw pointers and ready-made tables.
#pragma once

#include "common/cpu/capability.h"
#include "cross_entropy/cross_entropy.h"
#include "softmax/cpu/work.h"

namespace fcn_ext {

enum class CrossEntropyResult {
  kSum,             // loss summed over pixels and, where `gradient` is not null, its gradient
  kPixels,          // the loss of every pixel
  kPixelsGradient,  // the gradient of the sum over pixels of pixel_grad * loss
};

struct CrossEntropyWork {
  SoftmaxWork softmax;  // pixels weigh a_y, times pixel_grad if there is one
  CrossEntropy problem;
  CrossEntropyResult result;
  // In the accumulation type, indexed by label + 1, so that an ignored pixel (-1) reads zero.
  const void* lse_weight;          // a_y
  bool plain;                      // all a_y are one
  const double* label_weight;      // (1 - eps) w_c
  const double* smoothing_weight;  // eps / C * w_c; null without label smoothing
  const void* pixel_grad;          // dense (N, H, W), in the accumulation type
  // Results. Each unit writes its own sum; counts, which are integers, are added up.
  double* loss;      // [units]
  int64_t* counts;   // [classes]
  int64_t* invalid;  // the lowest index (n, y, x) of a label out of range, or INT64_MAX
  void* pixel_loss;  // dense (N, H, W), in the accumulation type
  int64_t* hits;     // the pixels that count, those whose label wins; null: not wanted
};

// scratch: the bytes of memory, aligned to 64, that a call of run needs. run: computes units
// [begin, end). Both are indexed by accumulation type: float, double.
struct CrossEntropyKernels {
  int64_t (*scratch[2])(const CrossEntropyWork&);
  void (*run[2])(const CrossEntropyWork&, int64_t begin, int64_t end, void* scratch);
};

FCN_EXT_DECLARE_KERNELS(CrossEntropyKernels, cross_entropy_kernels)

}  // namespace fcn_ext
