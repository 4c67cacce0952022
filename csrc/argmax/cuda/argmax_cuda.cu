#include "argmax/argmax_operators.h"
#include "argmax/cuda/kernels.cuh"
#include "common/cuda/tensors.h"

namespace fcn_ext {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

BilinearShape shape_of(const Tensor& input, const BilinearAxes& axes) {
  return {input.size(0), input.size(1), axes.y, axes.x};
}

}  // namespace

ArgmaxLabels ArgmaxCuda::labels(const Tensor& input, const BilinearAxes& axes, ScalarType dtype,
                                bool with_probability) {
  ArgmaxResult result = empty_argmax(input, axes, dtype, with_probability);
  if (result.labels.numel() > 0) {
    on_device_of(input, [&](cudaStream_t stream) {
      dispatch_floating(input.scalar_type(), [&](auto zero) {
        using scalar_t = decltype(zero);
        void* probability = with_probability ? result.probability.mutable_data_ptr() : nullptr;
        launch_argmax(shape_of(input, axes), static_cast<const scalar_t*>(input.const_data_ptr()),
                      strides_of(input), result.labels.mutable_data_ptr(), label_index(dtype),
                      static_cast<accumulate_of<scalar_t>*>(probability), stream);
      });
    });
  }
  return {result.labels, result.probability};
}

void ArgmaxCuda::count(const Tensor& input, const Tensor& target, const BilinearAxes& axes,
                       int64_t ignore_index, Tensor& matrix, Tensor& invalid) {
  if (target.numel() == 0) {
    return;
  }
  on_device_of(input, [&](cudaStream_t stream) {
    dispatch_floating(input.scalar_type(), [&](auto zero) {
      using scalar_t = decltype(zero);
      launch_argmax_confusion(
          shape_of(input, axes), static_cast<const scalar_t*>(input.const_data_ptr()),
          strides_of(input), label_map(target), ignore_index, matrix.mutable_data_ptr<int64_t>(),
          invalid.mutable_data_ptr<int64_t>(), stream);
    });
  });
}

void ArgmaxCuda::hits(const Tensor& input, const Tensor& target, const BilinearAxes& axes,
                      int64_t ignore_index, Tensor& hits) {
  on_device_of(input, [&](cudaStream_t stream) {
    dispatch_floating(input.scalar_type(), [&](auto zero) {
      using scalar_t = decltype(zero);
      launch_argmax_hits(shape_of(input, axes), data_of<scalar_t>(input), strides_of(input),
                         label_map(target), ignore_index, result_of<int64_t>(hits), stream);
    });
  });
}

}  // namespace fcn_ext
