// The input of the CPU kernels of the confusion matrix.
#pragma once

#include <cstdint>

#include "common/cpu/capability.h"

namespace fcn_ext {

// Where counts go. A histogram belongs to one thread: num_classes^2 bins, one for ignored pixels
// and one for invalid ones. With few bins there are kCopies of it. With many, bins are bytes, which
// stay in the nearer caches and add 256 to the matrix when they overflow. Without either, pixels
// are added to the matrix directly. Additions to the matrix are atomic.
struct ConfusionCounts {
  static constexpr int kCopies = 4;

  int64_t num_classes;
  int64_t ignore_index;
  uint32_t* histogram;
  uint8_t* bytes;
  int64_t* matrix;
  int64_t invalid;
};

// Pixels that are `column` elements apart, with scores that are `channel` elements apart.
struct LogitsRun {
  const void* data;
  int64_t channels, channel, column;
};

struct ConfusionMatrixKernels {
  // Indexed by the label types of prediction and target: uint8, int16, int32, int64.
  void (*count[4][4])(const void* prediction, const void* target, int64_t n, ConfusionCounts&);
  // Indexed by element type: float, double, half, bfloat16. The lowest class wins among equal
  // scores, and NaN counts as the greatest, as in torch.argmax. At most kArgmaxRun pixels per call.
  void (*argmax[4])(const LogitsRun&, int64_t n, int32_t* prediction);
};

constexpr int64_t kArgmaxRun = 1024;

FCN_EXT_DECLARE_KERNELS(ConfusionMatrixKernels, confusion_matrix_kernels)

}  // namespace fcn_ext
