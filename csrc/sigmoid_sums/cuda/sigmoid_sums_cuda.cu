// The tensors around the CUDA kernels of the sigmoid sums.
#include "common/cuda/tensors.h"
#include "sigmoid_sums/cuda/kernels.cuh"
#include "sigmoid_sums/sigmoid_sums_operators.h"

namespace fcn_ext {

using torch::stable::Tensor;

void SigmoidSumsCuda::sums(const SigmoidSums& problem, const Tensor& input, const Tensor&,
                           Tensor& sums) {
  on_device_of(input, [&](cudaStream_t stream) {
    dispatch_floating(input.scalar_type(), [&](auto zero) {
      using scalar_t = decltype(zero);
      Tensor workspace =
          empty_like_in(input, {static_cast<int64_t>(sigmoid_sums_workspace(problem))},
                        torch::headeronly::ScalarType::Byte);
      launch_sigmoid_sums<scalar_t>(problem, static_cast<const scalar_t*>(input.const_data_ptr()),
                                    static_cast<accumulate_of<scalar_t>*>(sums.mutable_data_ptr()),
                                    static_cast<unsigned char*>(workspace.mutable_data_ptr()),
                                    stream);
    });
  });
}

void SigmoidSumsCuda::backward(const SigmoidSums& problem, const Tensor& grad_output,
                               const Tensor& input, const Tensor&, Tensor& gradient) {
  on_device_of(input, [&](cudaStream_t stream) {
    dispatch_floating(input.scalar_type(), [&](auto zero) {
      using scalar_t = decltype(zero);
      using accumulate_t = accumulate_of<scalar_t>;
      launch_sigmoid_sums_backward<scalar_t>(
          problem, static_cast<const accumulate_t*>(grad_output.const_data_ptr()),
          static_cast<const scalar_t*>(input.const_data_ptr()),
          static_cast<accumulate_t*>(gradient.mutable_data_ptr()), strides_of(gradient), stream);
    });
  });
}

}  // namespace fcn_ext
