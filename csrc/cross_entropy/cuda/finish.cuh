// Reduces the sums over blocks, in an order fixed by the shape, to the loss and the total weight of
// the labels. A kernel of its own finds the total weight before the loss if the gradient is to be
// that of a mean at once. Another one scales a finished gradient: of a mean, or in a backward pass.
#pragma once

#include "common/cuda/launch.cuh"
#include "cross_entropy/cuda/labels.cuh"

namespace fcn_ext {
namespace cross_entropy {

constexpr int kFinishThreads = 256;
constexpr size_t kFinishScratch = kFinishThreads / kWarp * sizeof(double);
constexpr int kTotalThreads = 512, kTotalWarps = kTotalThreads / kWarp;
constexpr int kMostTotals = 128;  // which every block of the next kernel adds up again

// The weights of the labels, summed by the blocks of total_weight_kernel.
struct TotalWeights {
  const double* sums;  // null: the loss is not divided
  int count;
};

// The sum of these weights. All threads of a warp must call this.
__device__ __forceinline__ double total_weight_of(const TotalWeights& totals) {
  double sum = 0;
  for (int k = static_cast<int>(threadIdx.x) % kWarp; k < totals.count; k += kWarp) {
    sum += totals.sums[k];
  }
#pragma unroll
  for (int other = kWarp / 2; other > 0; other /= 2) {
    sum += __shfl_xor_sync(kFullMask, sum, other);
  }
  return sum;
}

// Makes the gradient of a sum that of a mean. The mean over nothing has gradient zero.
template <typename accumulate_t>
__device__ __forceinline__ accumulate_t scale_of_mean(accumulate_t total) {
  return total == 0 ? accumulate_t(0) : 1 / total;
}
template <typename accumulate_t>
__device__ __forceinline__ accumulate_t mean_scale(const TotalWeights& totals) {
  return totals.sums == nullptr ? accumulate_t(1)
                                : scale_of_mean(static_cast<accumulate_t>(total_weight_of(totals)));
}

// Sums the weights of the labels. Each warp takes rows of the target in turn, and each lane every
// 32nd label of a row, several at a time. Memory touched: the target, and one number per block.
template <typename accumulate_t>
__global__ void __launch_bounds__(kTotalThreads)
    total_weight_kernel(const CrossEntropy problem, const ClassTerms<accumulate_t> terms,
                        double* sums) {
  constexpr int kAhead = 8;
  const int64_t height = problem.shape.y.output_size, width = problem.shape.x.output_size;
  const int64_t rows = problem.shape.batch * height;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kWarp;
  const int64_t step = kWarp * problem.target.stride[2];
  double sum = 0;
  with_labels(problem.target.data, problem.target.type, [&](const auto* labels) {
    using label_t = std::remove_const_t<std::remove_pointer_t<decltype(labels)>>;
#pragma unroll 1
    for (int64_t row = int64_t{blockIdx.x} * kTotalWarps + thread / kWarp; row < rows;
         row += int64_t{gridDim.x} * kTotalWarps) {
      const int64_t n = row / height;
      const auto* from = labels + n * problem.target.stride[0] +
                         (row - n * height) * problem.target.stride[1] +
                         lane * problem.target.stride[2];
      int count = 0;
      accumulate_t in_row = 0;
#pragma unroll 1
      for (int64_t left = width - lane; left > 0; left -= kAhead * kWarp) {
        const int there_are = static_cast<int>(smaller<int64_t>(left, kAhead * kWarp));
        label_t ahead[kAhead];
#pragma unroll
        for (int a = 0; a < kAhead; ++a) {
          ahead[a] = a * kWarp < there_are ? *from : label_t(0);
          from += step;
        }
#pragma unroll
        for (int a = 0; a < kAhead; ++a) {
          const bool is_there = a * kWarp < there_are;
          if (terms.weight == nullptr) {
            count += is_there && is_class(ahead[a], problem.ignore_index, terms.classes) ? 1 : 0;
          } else if (is_there) {
            const int32_t label = label_class(ahead[a], problem.ignore_index, terms.classes);
            in_row += label < 0 ? accumulate_t(0) : terms.weight[label];
          }
        }
      }
      sum += count + static_cast<double>(in_row);
    }
  });
  sum = block_sum(sum, shared_memory<double>());
  if (threadIdx.x == 0) {
    sums[blockIdx.x] = sum;
  }
}

inline int total_weight_blocks(const CrossEntropy& problem) {
  const int64_t rows = problem.shape.batch * problem.shape.y.output_size;
  return static_cast<int>(smaller<int64_t>(ceil_divide(rows, kTotalWarps), kMostTotals));
}

template <typename accumulate_t>
TotalWeights launch_total_weight(const CrossEntropy& problem, const ClassTerms<accumulate_t>& terms,
                                 double* sums, cudaStream_t stream) {
  const int blocks = total_weight_blocks(problem);
  launch(total_weight_kernel<accumulate_t>, dim3(static_cast<unsigned>(blocks)),
         dim3(kTotalThreads), kTotalWarps * sizeof(double), stream, problem, terms, sums);
  return {sums, blocks};
}

// Adds up the losses and weights that all blocks of a launch left; called by one block. `scratch`
// holds one double per warp.
template <typename accumulate_t>
struct FinishLoss {
  PartialLoss* partials;  // one per block; null: no loss is asked for
  int64_t count;
  bool mean;
  accumulate_t* loss;
  accumulate_t* total_weight;
  accumulate_t* scale;  // of the gradient, or null

  __device__ __forceinline__ void operator()(double* scratch) const {
    constexpr int kAhead = 8;
    const auto threads = static_cast<int64_t>(blockDim.x);
    double loss_sum = 0, weight_sum = 0;
#pragma unroll 1
    for (int64_t first = threadIdx.x; first < count; first += kAhead * threads) {
      PartialLoss ahead[kAhead];
#pragma unroll
      for (int a = 0; a < kAhead; ++a) {
        const int64_t k = first + a * threads;
        ahead[a] = k < count ? partials[k] : PartialLoss{0, 0};
      }
#pragma unroll
      for (const PartialLoss& part : ahead) {
        loss_sum += part.loss;
        weight_sum += part.weight;
      }
    }
    loss_sum = block_sum(loss_sum, scratch);
    weight_sum = block_sum(weight_sum, scratch);
    if (threadIdx.x == 0) {
      const auto sum = static_cast<accumulate_t>(loss_sum);
      const auto total = static_cast<accumulate_t>(weight_sum);
      *loss = mean ? sum / total : sum;
      *total_weight = total;
      if (scale != nullptr) {
        *scale = mean ? scale_of_mean(total) : 1;
      }
    }
  }
};

template <typename accumulate_t>
__global__ void __launch_bounds__(kFinishThreads)
    finish_loss_kernel(const FinishLoss<accumulate_t> finish) {
  finish(shared_memory<double>());
}

template <typename accumulate_t>
void launch_finish_loss(const FinishLoss<accumulate_t>& finish, cudaStream_t stream) {
  launch(finish_loss_kernel<accumulate_t>, dim3(1), dim3(kFinishThreads), kFinishScratch, stream,
         finish);
}

// gradient[i] *= *factor, unless the factor is one. A thread takes every n-th vector, where n is
// the number of threads in the grid, then every n-th of the elements after the `vectors`.
template <typename T>
__global__ void __launch_bounds__(kFinishThreads)
    scale_kernel(T* gradient, int64_t vectors, int64_t count, const T* factor) {
  constexpr int kVector = 16 / sizeof(T);
  const T scale = *factor;
  if (scale == 1) {
    return;
  }
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kFinishThreads + threadIdx.x;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kFinishThreads;
  auto* const whole = reinterpret_cast<Vector<T, kVector>*>(gradient);
#pragma unroll 4
  for (int64_t i = first; i < vectors; i += step) {
    Vector<T, kVector> vector = whole[i];
#pragma unroll
    for (T& value : vector.values) {
      value *= scale;
    }
    whole[i] = vector;
  }
  for (int64_t i = kVector * vectors + first; i < count; i += step) {
    gradient[i] *= scale;
  }
}

template <typename T>
void launch_scale(T* gradient, int64_t count, const T* factor, cudaStream_t stream) {
  constexpr int64_t kVector = 16 / sizeof(T);
  const int64_t vectors = reinterpret_cast<uintptr_t>(gradient) % 16 == 0 ? count / kVector : 0;
  const int64_t blocks = smaller<int64_t>(ceil_divide(ceil_divide(count, kVector), kFinishThreads),
                                          16 * int64_t{device_limits().multiprocessors});
  launch(scale_kernel<T>, dim3(static_cast<unsigned>(blocks)), dim3(kFinishThreads), 0, stream,
         gradient, vectors, count, factor);
}

}  // namespace cross_entropy
}  // namespace fcn_ext
