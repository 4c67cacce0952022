// The input of the CPU kernels of the resampling engine: raw pointers and ready-made tables.
#pragma once

#include "bilinear/bilinear.h"
#include "common/cpu/capability.h"

namespace fcn_ext {

// One axis as tables. Weights are in the accumulation type (double for double, else float).
struct BilinearAxisTable {
  const int64_t* first;      // first_output(node) at [node + 1], for node in [-1, input_size]
  const int64_t* node;       // lower node of every output
  const void* lower_weight;  // of every output
  const void* upper_weight;  // of every output; where it is zero the upper node is not read
  // If weights repeat every `stride` outputs, none of them is zero, and kernels are unrolled for
  // this stride (2, 4, 8, 16, 32): output o lies in cell (o + lead) / stride, at phase
  // (o + lead) % stride, between nodes cell - 1 and cell. Else stride == 0.
  int64_t stride, lead;
  const void* phase_lower_weight;
  const void* phase_upper_weight;
};

// Work is divided into units, numbered by plane, then column tile, then band (forward) or input row
// (backward). A plane is a channel of an image, or a whole image if `inner` channels are adjacent.
struct BilinearWork {
  BilinearShape shape;
  BilinearAxisTable y, x;
  int64_t inner;         // adjacent elements in a column: channels if channels_last, else 1
  int64_t tile_columns;  // output columns (forward) or input columns (backward) in a tile
  int64_t tiles;
};

struct BilinearForward {
  BilinearWork work;
  const void* input;
  PlaneStrides input_strides;
  const void* skip;  // added to the output; null: no skip
  PlaneStrides skip_strides;
  void* output;  // dense: (planes, rows, columns, inner)
  bool stream;   // write past the caches
};

struct BilinearBackward {
  BilinearWork work;
  const void* grad_output;
  PlaneStrides grad_output_strides;
  void* grad_input;  // dense: (planes, rows, columns, inner)
  bool stream;       // write past the caches
};

// scratch: the bytes of memory, aligned to 64, that a call of run needs. run: computes units
// [begin, end), indexed by element type: float, double, half, bfloat16.
struct BilinearForwardKernels {
  int64_t (*scratch)(const BilinearForward&);
  void (*run[4])(const BilinearForward&, int64_t begin, int64_t end, void* scratch);
};
struct BilinearBackwardKernels {
  int64_t (*scratch)(const BilinearBackward&);
  void (*run[4])(const BilinearBackward&, int64_t begin, int64_t end, void* scratch);
};

FCN_EXT_DECLARE_KERNELS(BilinearForwardKernels, bilinear_forward_kernels)
FCN_EXT_DECLARE_KERNELS(BilinearBackwardKernels, bilinear_backward_kernels)

}  // namespace fcn_ext
