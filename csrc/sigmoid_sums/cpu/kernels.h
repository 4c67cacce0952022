// What the CPU kernels of the sigmoid sums are handed: raw pointers and ready-made tables.
#pragma once

#include "cells/cpu/cells.h"
#include "common/cpu/capability.h"
#include "sigmoid_sums/sigmoid_sums.h"

namespace fcn_ext {

constexpr int64_t kMostSpread = 32;  // columns of a cell

// Work is counted in units: mask, then chunk of it: node rows, whose gradients the unit writes,
// with the cell rows on both sides of them. So every unit writes what is its own.
struct SigmoidSumsWork {
  SigmoidSums problem;
  ScoreMap input;
  CellAxis y, x;
  const int32_t* node;  // of every output column, the padded node left of it; whole registers
  const void* lower;    // its weight and that of the next node, in the accumulation type; zero in
  const void* upper;    // the registers' rest
  int64_t pitch;        // columns, in whole registers
  // Cells [first_whole, end_whole) have `stride` columns each, 2, 4, 8, 16 or 32 of them; none have
  // where stride is 0.
  int64_t stride, first_whole, end_whole;
  // Where stride is 0, the columns that every cell has or could have: 2, 4, 8, 16 or 32, of weight
  // zero where there are none; 0 where a cell has more.
  int64_t spread;
  const void* spread_lower;  // [cells][spread], and the same of the next node
  const void* spread_upper;
  int64_t chunks;      // of a mask
  int32_t* invalid;    // set where a target is out of range
  double* sums;        // result [units][kSigmoidSums]; null: not wanted
  void* gradient;      // result in the accumulation type; null: not wanted. Of the sums, each times
  const void* weight;  // [weight_masks][kSigmoidSums], accumulation type; mask by mask, over and
  int64_t weight_masks;  // over again
  PlaneStrides gradient_strides;
};

// scratch: bytes of memory, aligned to 64, that a call of run needs. run: units [begin, end).
// Indexed by accumulation type: float, double.
struct SigmoidSumsKernels {
  int64_t (*scratch[2])(const SigmoidSumsWork&);
  void (*run[2])(const SigmoidSumsWork&, int64_t begin, int64_t end, void* scratch);
};

FCN_EXT_DECLARE_KERNELS(SigmoidSumsKernels, sigmoid_sums_kernels)

}  // namespace fcn_ext
