// The tensors around the CUDA kernels of the sigmoid sums.
#include "common/cuda/tensors.h"
#include "sigmoid_sums/cuda/kernels.cuh"
#include "sigmoid_sums/sigmoid_sums_operators.h"

namespace fcn_ext {

using torch::stable::Tensor;

void SigmoidSumsCuda::compute(const SigmoidSums& problem, const Tensor& input, const Tensor* weight,
                              Tensor* sums, Tensor* gradient) {
  on_device_of(input, [&](cudaStream_t stream) {
    dispatch_floating(input.scalar_type(), [&](auto zero) {
      using scalar_t = decltype(zero);
      using accumulate_t = accumulate_of<scalar_t>;
      SigmoidResults<accumulate_t> results;
      const size_t bytes = sums != nullptr ? sigmoid_sums_workspace<scalar_t>(problem) : 0;
      Tensor workspace =
          empty_like_in(input, {static_cast<int64_t>(bytes)}, torch::headeronly::ScalarType::Byte);
      if (sums != nullptr) results.sums = static_cast<accumulate_t*>(sums->mutable_data_ptr());
      if (gradient != nullptr) {
        results.gradient = static_cast<accumulate_t*>(gradient->mutable_data_ptr());
        results.gradient_strides = strides_of(*gradient);
        results.weights = static_cast<const accumulate_t*>(weight->const_data_ptr());
        results.weight_masks = weight->numel() / kSigmoidSums;
      }
      launch_sigmoid_sums<scalar_t>(
          problem, static_cast<const scalar_t*>(input.const_data_ptr()), results,
          static_cast<unsigned char*>(workspace.mutable_data_ptr()), stream);
    });
  });
}

void SigmoidSumsCuda::weigh(const SigmoidSums& problem, const Tensor& sums, const Tensor& weight,
                            Tensor& loss) {
  on_device_of(sums, [&](cudaStream_t stream) {
    const auto weigh = [&](auto zero) {
      using accumulate_t = decltype(zero);
      launch_weigh_sums(static_cast<const accumulate_t*>(sums.const_data_ptr()),
                        static_cast<const accumulate_t*>(weight.const_data_ptr()), weight.size(0),
                        loss.numel(), problem.focal,
                        static_cast<accumulate_t*>(loss.mutable_data_ptr()), stream);
    };
    loss.scalar_type() == torch::headeronly::ScalarType::Double ? weigh(double{}) : weigh(float{});
  });
}

}  // namespace fcn_ext
