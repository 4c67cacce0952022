// The launchers of the sigmoid sums. Accumulation in float goes to the walk; accumulation in
// double, and nodes with more outputs than a block has columns, go to the direct kernels. No
// atomics: every sum runs in an order fixed by the shape.
//
// add_sums_kernel adds up the parts of each mask. weigh_kernel makes the loss of each mask of its
// sums, one mask per thread.
#pragma once

#include "common/cuda/launch.cuh"
#include "sigmoid_sums/cuda/direct.cuh"
#include "sigmoid_sums/cuda/walk.cuh"

namespace fcn_ext {
namespace sigmoid_sums {

// Each thread adds up one sum of one mask; there are `count` sums in all.
template <typename accumulate_t>
__global__ void __launch_bounds__(kThreads)
    add_sums_kernel(const double* partials, int64_t parts, int64_t count, accumulate_t* sums) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) {
    return;
  }
  const double* from = partials + i / kSigmoidSums * parts * kSigmoidSums + i % kSigmoidSums;
  double sum = 0;
#pragma unroll 1
  for (int64_t part = 0; part < parts; ++part) {
    sum += from[part * kSigmoidSums];
  }
  sums[i] = static_cast<accumulate_t>(sum);
}

// One thread for each of `count` masks.
template <typename accumulate_t>
__global__ void __launch_bounds__(kThreads)
    weigh_kernel(const accumulate_t* sums, const accumulate_t* weights, int64_t weight_masks,
                 int64_t count, bool focal, accumulate_t* loss) {
  const int64_t mask = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (mask < count) {
    loss[mask] =
        weighed(sums + mask * kSigmoidSums, weights + mask % weight_masks * kSigmoidSums, focal);
  }
}

}  // namespace sigmoid_sums

// The results that are wanted; others are null.
template <typename accumulate_t>
struct SigmoidResults {
  accumulate_t* sums = nullptr;      // [masks][kSigmoidSums]
  accumulate_t* gradient = nullptr;  // of the sum of weights * sums
  PlaneStrides gradient_strides{};
  const accumulate_t* weights = nullptr;  // [weight_masks][kSigmoidSums];
  int64_t weight_masks = 1;               // mask m has row m % weight_masks
};

// The bytes that launch_sigmoid_sums needs if sums are wanted.
template <typename scalar_t>
size_t sigmoid_sums_workspace(const SigmoidSums& problem) {
  using namespace sigmoid_sums;
  const int64_t masks = problem.shape.batch * problem.shape.channels;
  const int64_t parts =
      is_walked<scalar_t>(problem) ? walk_of(problem).parts() : parts_of(problem).count;
  return static_cast<size_t>(masks * parts * kSigmoidSums) * sizeof(double);
}

namespace sigmoid_sums {

template <typename scalar_t>
void launch_direct(const SigmoidSums& problem, const scalar_t* input,
                   const SigmoidResults<accumulate_of<scalar_t>>& results, double* partials,
                   cudaStream_t stream) {
  const int64_t masks = problem.shape.batch * problem.shape.channels;
  if (partials != nullptr) {
    const Parts parts = parts_of(problem);
    const dim3 grid(blocks_along_x(masks), static_cast<unsigned>(parts.count));
    launch(sums_kernel<scalar_t>, grid, dim3(kThreads), kScratch, stream, problem, input,
           parts.rows, partials);
  }
  if (results.gradient != nullptr) {
    const int64_t count = masks * problem.shape.y.input_size * problem.shape.x.input_size;
    launch(backward_kernel<scalar_t>, dim3(blocks_along_x(ceil_divide(count, kThreads))),
           dim3(kThreads), 0, stream, problem, results.weights, results.weight_masks, input, count,
           results.gradient_strides, results.gradient);
  }
}

}  // namespace sigmoid_sums

template <typename scalar_t>
void launch_sigmoid_sums(const SigmoidSums& problem, const scalar_t* input,
                         const SigmoidResults<accumulate_of<scalar_t>>& results,
                         unsigned char* workspace, cudaStream_t stream) {
  using namespace sigmoid_sums;
  const int64_t masks = problem.shape.batch * problem.shape.channels;
  auto* const partials = results.sums != nullptr ? reinterpret_cast<double*>(workspace) : nullptr;
  int64_t parts = 0;
  if (is_walked<scalar_t>(problem)) {
    if constexpr (std::is_same_v<accumulate_of<scalar_t>, float>) {
      const Walk walk = walk_of(problem);
      launch_walk<scalar_t>({problem, input, walk, partials, results.weights, results.weight_masks,
                             results.gradient, results.gradient_strides},
                            stream);
      parts = walk.parts();
    }
  } else {
    parts = parts_of(problem).count;
    launch_direct(problem, input, results, partials, stream);
  }
  if (partials != nullptr) {
    const int64_t count = masks * kSigmoidSums;
    launch(add_sums_kernel<accumulate_of<scalar_t>>,
           dim3(blocks_along_x(ceil_divide(count, kThreads))), dim3(kThreads), 0, stream, partials,
           parts, count, results.sums);
  }
}

// loss: [masks].
template <typename accumulate_t>
void launch_weigh_sums(const accumulate_t* sums, const accumulate_t* weights, int64_t weight_masks,
                       int64_t masks, bool focal, accumulate_t* loss, cudaStream_t stream) {
  using namespace sigmoid_sums;
  launch(weigh_kernel<accumulate_t>, dim3(blocks_along_x(ceil_divide(masks, kThreads))),
         dim3(kThreads), 0, stream, sums, weights, weight_masks, masks, focal, loss);
}

}  // namespace fcn_ext
