// What the CPU kernels of the cross-entropy are handed: raw pointers and ready-made tables.
#pragma once

#include "cells/cpu/cells.h"
#include "common/cpu/capability.h"
#include "cross_entropy/cross_entropy.h"

namespace fcn_ext {

enum class CrossEntropyResult {
  kSum,             // loss summed over pixels and, where `gradient` is not null, its gradient
  kPixels,          // the loss of every pixel
  kPixelsGradient,  // the gradient of the sum over pixels of pixel_grad * loss
};

// Work is counted in units: image, then chunk of cell rows. A unit touches the node rows from its
// first cell row's upper one to its last one's lower one; it owns all of them but the last, whose
// share goes to `edge` and is added later.
struct CrossEntropyWork {
  CrossEntropy problem;
  CrossEntropyResult result;
  const void* input;
  CellAxis y, x;
  int64_t chunks;       // of an image
  int64_t strip_cells;  // cells side by side that a unit works on at a time; whole groups
  // In the accumulation type; read at [label + 1], so that an ignored pixel (-1) has zero.
  const void* lse_weight;          // a_y
  bool plain;                      // all of them are one
  const double* label_weight;      // (1 - eps) w_c
  const double* smoothing_weight;  // eps / C * w_c; null without label smoothing
  const void* pixel_grad;          // dense (N, H, W), accumulation type
  // Results. Sums are written a unit; counts are added up, integers.
  double* loss;      // [units]
  int64_t* counts;   // [classes]
  int64_t* invalid;  // the lowest index (n, y, x) of a label out of range, or INT64_MAX
  void* pixel_loss;  // dense (N, H, W), accumulation type
  void* gradient;    // accumulation type; null: not wanted
  PlaneStrides gradient_strides;
  void* edge;  // [units][classes][nodes]
};

// scratch: bytes of memory, aligned to 64, that a call of run needs. run: units [begin, end).
// Indexed by element type: float, double, half, bfloat16.
struct CrossEntropyKernels {
  int64_t (*scratch[4])(const CrossEntropyWork&);
  void (*run[4])(const CrossEntropyWork&, int64_t begin, int64_t end, void* scratch);
};

FCN_EXT_DECLARE_KERNELS(CrossEntropyKernels, cross_entropy_kernels)

}  // namespace fcn_ext
