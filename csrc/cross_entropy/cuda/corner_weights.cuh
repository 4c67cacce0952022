// What the pixels of one label weigh at the nodes around them.
#pragma once

#include "common/cuda/device.cuh"

namespace fcn_ext {
namespace cross_entropy {

// Sums over pixels of their weights at the corners of a stack of cells: left before right, from top
// to bottom. A corner that no pixel reads has exactly zero.
template <typename Tile, typename real>
struct CornerWeights {
  real at[Tile::kCorners] = {};

  // Adds `factor` times `columns` x `rows` pixels of cell `which` of the stack, the first of them
  // at (x, y).
  __device__ __forceinline__ void add(int which, real factor, int columns, real x, real x_step,
                                      int rows, real y, real y_step) {
    const auto sum_of = [](int count, real first, real step) {
      const auto n = static_cast<real>(count);
      return std::fma(step, static_cast<real>(0.5) * n * (n - 1), n * first);
    };
    const real right = sum_of(columns, x, x_step), left = static_cast<real>(columns) - right;
    const real rows_y = sum_of(rows, y, y_step);
    const real bottom = factor * rows_y, top = factor * (static_cast<real>(rows) - rows_y);
    add_products(which, left, right, top, bottom);
  }
  // Adds `count` pixels of a row of a cell; `right` is the sum of their weights of the right nodes.
  __device__ __forceinline__ void add_row(int which, real right, real count, real y) {
    add_products(which, count - right, right, 1 - y, y);
  }

 private:
  __device__ __forceinline__ void add_products(int which, real left, real right, real top,
                                               real bottom) {
    // `at` stays in registers even if `which` is no compile-time constant.
#pragma unroll
    for (int k = 0; k < Tile::kStack; ++k) {
      if (k == which) {
        at[2 * k] = std::fma(top, left, at[2 * k]);
        at[2 * k + 1] = std::fma(top, right, at[2 * k + 1]);
        at[2 * k + 2] = std::fma(bottom, left, at[2 * k + 2]);
        at[2 * k + 3] = std::fma(bottom, right, at[2 * k + 3]);
      }
    }
  }
};

}  // namespace cross_entropy
}  // namespace fcn_ext
