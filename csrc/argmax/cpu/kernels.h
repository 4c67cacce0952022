// What the CPU kernels of the argmax are handed: raw pointers and ready-made tables.
#pragma once

#include "cells/cpu/cells.h"
#include "common/cpu/capability.h"

namespace fcn_ext {

// Takes the labels of an output row, from the left border to the right.
struct RowSink {
  void (*take)(void* context, int64_t image, int64_t row, const int32_t* labels);
  void* context;
};

// Work is counted in units: image, then cell row.
struct ArgmaxWork {
  BilinearShape shape;  // channels = classes
  ScoreMap input;
  CellAxis y, x;
  int64_t strip_cells;  // cells side by side that are worked on at a time; whole groups
  void* probability;    // dense (N, H, W), accumulation type; null: not wanted
};

// scratch: bytes of memory, aligned to 64, that a call of run needs. run: units [begin, end).
// Indexed by accumulation type: float, double.
struct ArgmaxKernels {
  int64_t (*scratch[2])(const ArgmaxWork&);
  void (*run[2])(const ArgmaxWork&, int64_t begin, int64_t end, const RowSink&, void* scratch);
};

FCN_EXT_DECLARE_KERNELS(ArgmaxKernels, argmax_kernels)

}  // namespace fcn_ext
