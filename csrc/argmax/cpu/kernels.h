// The input of the CPU kernels of the argmax: raw pointers and ready-made tables.
#pragma once

#include "cells/cpu/cells.h"
#include "common/cpu/capability.h"

namespace fcn_ext {

// Takes the labels of an output row, from its left end to its right.
struct RowSink {
  void (*take)(void* context, int64_t image, int64_t row, const int32_t* labels);
  void* context;
};

// Work is divided into units: one cell row of one image, numbered image by image.
struct ArgmaxWork {
  BilinearShape shape;  // channels = classes
  ScoreMap input;
  CellAxis y, x;
  int64_t strip_cells;  // cells side by side that are worked on at once; whole groups
  void* probability;    // dense (N, H, W), in the accumulation type; null: not wanted
};

// scratch: the bytes of memory, aligned to 64, that a call of run needs. run: computes units
// [begin, end). Both are indexed by accumulation type: float, double.
struct ArgmaxKernels {
  int64_t (*scratch[2])(const ArgmaxWork&);
  void (*run[2])(const ArgmaxWork&, int64_t begin, int64_t end, const RowSink&, void* scratch);
};

FCN_EXT_DECLARE_KERNELS(ArgmaxKernels, argmax_kernels)

}  // namespace fcn_ext
