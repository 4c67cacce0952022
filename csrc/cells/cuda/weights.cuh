// Tables that a block makes of the cells of any bilinear map: where the outputs of each cell begin,
// and the weights of every output. A cell beyond a border reads the border's node with a weight of
// one (clamped), or gives the node that it lacks a weight of zero.
#pragma once

#include "bilinear/bilinear.h"
#include "common/cuda/device.cuh"

namespace fcn_ext {

// The weights of a pixel on the two nodes of its cell along an axis.
template <typename accumulate_t>
struct alignas(2 * sizeof(accumulate_t)) CellWeights {
  accumulate_t lower, upper;
};

// The weights of an output in the cell whose lower node is `node`.
template <typename accumulate_t>
__device__ __forceinline__ CellWeights<accumulate_t> weights_in_cell(const BilinearAxis& axis,
                                                                     int64_t node, int64_t output) {
  if (axis.clamp && node < 0) {
    return {0, 1};
  }
  if (axis.clamp && node >= axis.input_size - 1) {
    return {1, 0};
  }
  const BilinearTap tap = tap_after(axis, node, output);
  return {node < 0 ? accumulate_t(0) : lower_weight<accumulate_t>(axis, tap),
          node + 1 >= axis.input_size ? accumulate_t(0) : upper_weight<accumulate_t>(axis, tap)};
}

// The weights of an output; sets `cell` to the lower node of its cell.
template <typename accumulate_t>
__device__ __forceinline__ CellWeights<accumulate_t> cell_weights(const BilinearAxis& axis,
                                                                  int64_t output, int64_t& cell) {
  cell = bilinear_tap(unclamped(axis), output).node;
  return weights_in_cell<accumulate_t>(axis, cell, output);
}

// Tables of `cells` cells from first_cell on, where a cell is named by its lower node. First
// begins[cells + 1], the first output of each cell:
template <int threads>
__device__ __forceinline__ void fill_begins(const BilinearAxis& axis, int first_cell, int cells,
                                            int32_t* begins) {
  for (int i = static_cast<int>(threadIdx.x); i <= cells; i += threads) {
    begins[i] = static_cast<int32_t>(first_output(unclamped(axis), first_cell + i));
  }
}

// Then, after a barrier, the weights of their outputs, at most `band` per cell, indexed from the
// first cell's first output.
template <int threads, int band, typename accumulate_t>
__device__ __forceinline__ void fill_weights(const BilinearAxis& axis, int first_cell, int cells,
                                             const int32_t* begins,
                                             CellWeights<accumulate_t>* weights) {
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < cells * band; i += threads) {
    const int cell = i / band, output = begins[cell] + i % band;
    if (output < begins[cell + 1]) {
      weights[output - begins[0]] = weights_in_cell<accumulate_t>(axis, first_cell + cell, output);
    }
  }
}

}  // namespace fcn_ext
