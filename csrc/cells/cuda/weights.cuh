// Cells of any bilinear map as a block tabulates them: where they begin, and every output's cell
// and weights. Cells beyond a border read its node with a weight of one (clamped), or lack a node,
// which then has a weight of zero.
#pragma once

#include "bilinear/bilinear.h"
#include "common/cuda/device.cuh"

namespace fcn_ext {

// The weights of a pixel on the two nodes of its cell along an axis.
template <typename accumulate_t>
struct alignas(2 * sizeof(accumulate_t)) CellWeights {
  accumulate_t lower, upper;
};

// The weights of one output, and its cell.
template <typename accumulate_t>
__device__ __forceinline__ CellWeights<accumulate_t> cell_weights(const BilinearAxis& axis,
                                                                  int64_t output, int64_t& cell) {
  const BilinearTap tap = bilinear_tap(unclamped(axis), output);
  cell = tap.node;
  if (axis.clamp && tap.node < 0) {
    return {0, 1};
  }
  if (axis.clamp && tap.node >= axis.input_size - 1) {
    return {1, 0};
  }
  return {
      tap.node < 0 ? accumulate_t(0) : lower_weight<accumulate_t>(axis, tap),
      tap.node + 1 >= axis.input_size ? accumulate_t(0) : upper_weight<accumulate_t>(axis, tap)};
}

// Tables of `cells` cells from first_cell on: begins [cells + 1], counted from output 0 on; weights
// and cell_of of their outputs, counted from the first of these. A cell is named by its lower node.
template <int threads, typename accumulate_t>
__device__ __forceinline__ void fill_tables(const BilinearAxis& axis, int first_cell, int cells,
                                            int32_t* begins, CellWeights<accumulate_t>* weights,
                                            uint8_t* cell_of) {
  const BilinearAxis cell = unclamped(axis);
  const auto begin = static_cast<int32_t>(first_output(cell, first_cell));
  const auto end = static_cast<int32_t>(first_output(cell, first_cell + cells));
  const int thread = static_cast<int>(threadIdx.x);
#pragma unroll 1
  for (int i = thread; i <= cells; i += threads) {
    begins[i] = static_cast<int32_t>(first_output(cell, first_cell + i));
  }
#pragma unroll 1
  for (int i = thread; i < end - begin; i += threads) {
    int64_t of = 0;
    weights[i] = cell_weights<accumulate_t>(axis, begin + i, of);
    cell_of[i] = static_cast<uint8_t>(of - first_cell);
  }
}

}  // namespace fcn_ext
