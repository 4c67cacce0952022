// Direct kernels, for what the walk cannot take (kernels.cuh).
//
// sums_kernel: a block takes some rows of a mask, and each thread every kThreads-th pixel of a row.
// backward_kernel: each thread computes the gradient of one coarse node. It gathers from the pixels
// that read the node and computes their logits again.
#pragma once

#include "common/cuda/launch.cuh"
#include "sigmoid_sums/cuda/pixel.cuh"
#include "sigmoid_sums/cuda/targets.cuh"
#include "softmax/cuda/functions.cuh"

namespace fcn_ext {
namespace sigmoid_sums {

constexpr int kThreads = 256;
constexpr size_t kScratch = kThreads / kWarp * sizeof(double);
// The fewest rows per block, and the most blocks per mask.
constexpr int64_t kBlockRows = 16, kMostParts = 256;

struct Parts {
  int64_t count, rows;  // per mask; per part
};

inline Parts parts_of(const SigmoidSums& problem) {
  const int64_t height = problem.shape.y.output_size;
  const int64_t rows = larger(kBlockRows, ceil_divide(height, kMostParts));
  return {ceil_divide(height, rows), rows};
}

// Grid: masks along x, their parts along y. partials: [masks][parts][kSigmoidSums].
template <typename scalar_t>
__global__ void __launch_bounds__(kThreads)
    sums_kernel(const SigmoidSums problem, const scalar_t* input, int64_t part_rows,
                double* partials) {
  using accumulate_t = accumulate_of<scalar_t>;
  const MaskView<scalar_t> mask(problem, input, blockIdx.x);
  const int64_t width = problem.shape.x.output_size;
  const int64_t begin = blockIdx.y * part_rows;
  const int64_t end = smaller(begin + part_rows, problem.shape.y.output_size);
  double total[kSigmoidSums] = {};
#pragma unroll 1
  for (int64_t row = begin; row < end; ++row) {
    const auto y = weighted_tap<accumulate_t>(problem.shape.y, row);
    accumulate_t sum[kSigmoidSums] = {};
#pragma unroll 1
    for (int64_t column = threadIdx.x; column < width; column += kThreads) {
      const int64_t at =
          mask.target + row * problem.target.strides.row + column * problem.target.strides.column;
      const accumulate_t target = target_at<accumulate_t>(problem, at);
      if (target < 0) {
        continue;
      }
      const auto x = weighted_tap<accumulate_t>(problem.shape.x, column);
      add_pixel(problem, logit_at(problem, mask.scores, y, x), target, sum);
    }
#pragma unroll
    for (int kind = 0; kind < kSigmoidSums; ++kind) {
      total[kind] += static_cast<double>(sum[kind]);
    }
  }
  double* const to = partials + (int64_t{blockIdx.x} * gridDim.y + blockIdx.y) * kSigmoidSums;
#pragma unroll
  for (int kind = 0; kind < kSigmoidSums; ++kind) {
    const double sum = softmax::block_sum(total[kind], shared_memory<double>());
    if (threadIdx.x == 0) {
      to[kind] = sum;
    }
  }
}

// The weight of a node in an output of `tap`.
template <typename accumulate_t>
__device__ __forceinline__ accumulate_t share_of(const WeightedTap<accumulate_t>& tap,
                                                 int64_t node) {
  return tap.node == node ? tap.lower : tap.node + 1 == node ? tap.upper : accumulate_t(0);
}

// One thread per node, `count` in all, in the order of a contiguous input. weights:
// [weight_masks][kSigmoidSums]; mask m has row m % weight_masks.
template <typename scalar_t>
__global__ void __launch_bounds__(kThreads, 2)
    backward_kernel(const SigmoidSums problem, const accumulate_of<scalar_t>* weights,
                    int64_t weight_masks, const scalar_t* input, int64_t count,
                    const PlaneStrides gradient_strides, accumulate_of<scalar_t>* gradient) {
  using accumulate_t = accumulate_of<scalar_t>;
  const BilinearAxis& y_axis = problem.shape.y;
  const BilinearAxis& x_axis = problem.shape.x;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= count) {
    return;
  }
  const int64_t column = index % x_axis.input_size, row = index / x_axis.input_size;
  const int64_t node_y = row % y_axis.input_size, number = row / y_axis.input_size;
  const MaskView<scalar_t> mask(problem, input, number);
  accumulate_t weight[kSigmoidSums];
#pragma unroll
  for (int kind = 0; kind < kSigmoidSums; ++kind) {
    weight[kind] = weights[number % weight_masks * kSigmoidSums + kind];
  }
  const int64_t bottom = first_output(y_axis, node_y + 1);
  const int64_t left = first_output(x_axis, column - 1), right = first_output(x_axis, column + 1);
  accumulate_t sum = 0;
#pragma unroll 1
  for (int64_t o = first_output(y_axis, node_y - 1); o < bottom; ++o) {
    const auto y = weighted_tap<accumulate_t>(y_axis, o);
    const accumulate_t y_share = share_of(y, node_y);
    if (y_share == 0) {
      continue;
    }
    accumulate_t in_row = 0;
#pragma unroll 1
    for (int64_t i = left; i < right; ++i) {
      const auto x = weighted_tap<accumulate_t>(x_axis, i);
      const accumulate_t x_share = share_of(x, column);
      const accumulate_t target =
          target_at<accumulate_t>(problem, mask.target + o * problem.target.strides.row +
                                               i * problem.target.strides.column);
      if (x_share == 0 || target < 0) {
        continue;
      }
      in_row += x_share * slope_of(problem, logit_at(problem, mask.scores, y, x), target, weight);
    }
    sum += y_share * in_row;
  }
  const int64_t masks = problem.shape.channels;
  gradient[number / masks * gradient_strides.batch + number % masks * gradient_strides.channel +
           node_y * gradient_strides.row + column * gradient_strides.column] = sum;
}

}  // namespace sigmoid_sums
}  // namespace fcn_ext
