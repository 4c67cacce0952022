// What is left when all blocks are done: the sum of their losses, in an order fixed by the shape.
#pragma once

#include "cross_entropy/cuda/labels.cuh"

namespace fcn_ext {
namespace cross_entropy {

constexpr int kFinishThreads = 256;

// One block: the losses and weights of all blocks of the kernel before.
template <typename accumulate_t>
__global__ void __launch_bounds__(kFinishThreads)
    finish_loss_kernel(const PartialLoss* partials, int64_t count, accumulate_t* loss,
                       accumulate_t* total_weight) {
  double loss_sum = 0, weight_sum = 0;
  for (int64_t k = threadIdx.x; k < count; k += kFinishThreads) {
    loss_sum += partials[k].loss;
    weight_sum += partials[k].weight;
  }
  loss_sum = block_sum(loss_sum, shared_memory<double>());
  weight_sum = block_sum(weight_sum, shared_memory<double>());
  if (threadIdx.x == 0) {
    *loss = static_cast<accumulate_t>(loss_sum);
    *total_weight = static_cast<accumulate_t>(weight_sum);
  }
}

}  // namespace cross_entropy
}  // namespace fcn_ext
