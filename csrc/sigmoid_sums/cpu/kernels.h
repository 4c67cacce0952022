// The input of the CPU kernels of the sigmoid sums: raw pointers and ready-made tables.
#pragma once

#include "cells/cpu/cells.h"
#include "common/cpu/capability.h"
#include "sigmoid_sums/sigmoid_sums.h"

namespace fcn_ext {

constexpr int64_t kMostSpread = 32;  // columns of a cell, at most

// Work is divided into units, numbered by mask, then by chunk of the mask: some node rows, whose
// gradients the unit writes, with the cell rows on both sides of them. So every unit writes only
// its own results.
struct SigmoidSumsWork {
  SigmoidSums problem;
  ScoreMap input;
  CellAxis y, x;
  const int32_t* node;  // the padded node left of each output column; whole registers
  const void* lower;    // the weights of that node and of the next, in the
  const void* upper;    // accumulation type; zero in the rest of the last register
  int64_t pitch;        // columns, in whole registers
  // Cells [first_whole, end_whole) have `stride` columns each: 2, 4, 8, 16 or 32. If stride is 0,
  // there are no such cells.
  int64_t stride, first_whole, end_whole;
  // If stride is 0, the columns that every cell is given: 2, 4, 8, 16 or 32, with weight zero where
  // the cell has none; 0 if a cell has more.
  int64_t spread;
  const void* spread_lower;  // [cells][spread]; spread_upper likewise for the next node
  const void* spread_upper;
  int64_t chunks;        // per mask
  int32_t* invalid;      // set if a target is out of range
  double* sums;          // result [units][kSigmoidSums]; null: not wanted
  void* gradient;        // result in the accumulation type, of the weighted sums; null: not wanted
  const void* weight;    // [weight_masks][kSigmoidSums], in the accumulation type;
  int64_t weight_masks;  // mask m has row m % weight_masks
  PlaneStrides gradient_strides;
};

// scratch: the bytes of memory, aligned to 64, that a call of run needs. run: computes units
// [begin, end). Both are indexed by accumulation type: float, double.
struct SigmoidSumsKernels {
  int64_t (*scratch[2])(const SigmoidSumsWork&);
  void (*run[2])(const SigmoidSumsWork&, int64_t begin, int64_t end, void* scratch);
};

FCN_EXT_DECLARE_KERNELS(SigmoidSumsKernels, sigmoid_sums_kernels)

}  // namespace fcn_ext
