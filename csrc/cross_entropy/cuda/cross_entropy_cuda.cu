// The tensors around the CUDA kernels of the cross-entropy. The argmax's kernels count hits, in a
// launch of their own: the loss's kernels never form a pixel's logits and have no registers left.
#include "argmax/argmax_operators.h"
#include "common/cuda/tensors.h"
#include "cross_entropy/cross_entropy_operators.h"
#include "cross_entropy/cuda/kernels.cuh"

namespace fcn_ext {

using torch::stable::Tensor;

CrossEntropySum CrossEntropyCuda::sum(const Tensor& input, const Tensor& target,
                                      const BilinearAxes& axes, const MaybeTensor& weight,
                                      int64_t ignore_index, double label_smoothing, bool mean,
                                      bool with_gradient, Tensor* hits) {
  const CrossEntropy problem =
      check_cross_entropy(input, target, axes, weight, ignore_index, label_smoothing);
  Tensor loss = empty_scalar(input, accumulation_type(input));
  Tensor total_weight = empty_scalar(input, accumulation_type(input));
  Tensor gradient =
      with_gradient ? empty_gradient(input) : empty_like_in(input, {0}, accumulation_type(input));
  on_device_of(input, [&](cudaStream_t stream) {
    dispatch_floating(input.scalar_type(), [&](auto zero) {
      using scalar_t = decltype(zero);
      using accumulate_t = accumulate_of<scalar_t>;
      Tensor workspace =
          workspace_of(input, cross_entropy_workspace<scalar_t>(problem, with_gradient));
      launch_cross_entropy<scalar_t>(problem, mean, data_of<scalar_t>(input),
                                     data_of<accumulate_t>(weight), result_of<accumulate_t>(loss),
                                     result_of<accumulate_t>(total_weight),
                                     with_gradient ? result_of<accumulate_t>(gradient) : nullptr,
                                     with_gradient ? strides_of(gradient) : PlaneStrides{},
                                     result_of<unsigned char>(workspace), stream);
    });
  });
  if (hits != nullptr) {
    ArgmaxCuda::hits(input, target, axes, ignore_index, *hits);
  }
  return {loss, total_weight, gradient};
}

void CrossEntropyCuda::scale_gradient(Tensor& gradient, const Tensor& factor) {
  on_device_of(gradient, [&](cudaStream_t stream) {
    if (gradient.scalar_type() == torch::headeronly::ScalarType::Double) {
      cross_entropy::launch_scale(result_of<double>(gradient), gradient.numel(),
                                  data_of<double>(factor), stream);
    } else {
      cross_entropy::launch_scale(result_of<float>(gradient), gradient.numel(),
                                  data_of<float>(factor), stream);
    }
  });
}

Tensor CrossEntropyCuda::pixels(const Tensor& input, const Tensor& target, const BilinearAxes& axes,
                                const MaybeTensor& weight, int64_t ignore_index,
                                double label_smoothing, Tensor* hits) {
  const CrossEntropy problem =
      check_cross_entropy(input, target, axes, weight, ignore_index, label_smoothing);
  Tensor loss = empty_like_in(input, {target.size(0), target.size(1), target.size(2)},
                              accumulation_type(input));
  on_device_of(input, [&](cudaStream_t stream) {
    dispatch_floating(input.scalar_type(), [&](auto zero) {
      using scalar_t = decltype(zero);
      using accumulate_t = accumulate_of<scalar_t>;
      launch_cross_entropy_pixels<scalar_t>(problem, data_of<scalar_t>(input),
                                            data_of<accumulate_t>(weight),
                                            result_of<accumulate_t>(loss), stream);
    });
  });
  if (hits != nullptr) {
    ArgmaxCuda::hits(input, target, axes, ignore_index, *hits);
  }
  return loss;
}

Tensor CrossEntropyCuda::pixels_backward(const Tensor& grad_output, const Tensor& input,
                                         const Tensor& target, const BilinearAxes& axes,
                                         const MaybeTensor& weight, int64_t ignore_index,
                                         double label_smoothing) {
  const CrossEntropy problem =
      check_cross_entropy(input, target, axes, weight, ignore_index, label_smoothing);
  Tensor gradient = empty_gradient(input);
  on_device_of(input, [&](cudaStream_t stream) {
    dispatch_floating(input.scalar_type(), [&](auto zero) {
      using scalar_t = decltype(zero);
      using accumulate_t = accumulate_of<scalar_t>;
      Tensor workspace =
          workspace_of(input, cross_entropy_pixels_backward_workspace<scalar_t>(problem));
      launch_cross_entropy_pixels_backward<scalar_t>(
          problem, data_of<accumulate_t>(grad_output), data_of<scalar_t>(input),
          data_of<accumulate_t>(weight), result_of<accumulate_t>(gradient), strides_of(gradient),
          result_of<unsigned char>(workspace), stream);
    });
  });
  return gradient;
}

}  // namespace fcn_ext
