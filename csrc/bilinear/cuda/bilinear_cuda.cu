// The tensors around the CUDA kernels of the resampling engine.
#include "bilinear/bilinear_tensors.h"
#include "bilinear/cuda/kernels.cuh"
#include "common/cuda/tensors.h"

namespace fcn_ext {

using torch::stable::Tensor;

Tensor BilinearCuda::forward(const Tensor& input, const BilinearAxes& axes,
                             const SkipWindow* skip) {
  const auto& [y, x] = axes;
  const bool channels_last = is_channels_last(input);
  Tensor output = empty_map(input, y.output_size, x.output_size, channels_last);
  if (output.numel() == 0) {
    return output;
  }
  const BilinearShape shape{input.size(0), input.size(1), y, x};
  on_device_of(input, [&](cudaStream_t stream) {
    dispatch_floating(input.scalar_type(), [&](auto zero) {
      using scalar_t = decltype(zero);
      const scalar_t* window = nullptr;
      PlaneStrides window_strides{};
      if (skip != nullptr) {
        window_strides = strides_of(skip->skip);
        window = static_cast<const scalar_t*>(skip->skip.const_data_ptr()) +
                 skip->offset_y * window_strides.row + skip->offset_x * window_strides.column;
      }
      launch_bilinear_forward<scalar_t>(
          shape, static_cast<const scalar_t*>(input.const_data_ptr()), strides_of(input), window,
          window_strides, static_cast<scalar_t*>(output.mutable_data_ptr()), channels_last, stream);
    });
  });
  return output;
}

Tensor BilinearCuda::backward(const Tensor& grad_output, const BilinearAxes& axes) {
  const auto& [y, x] = axes;
  const bool channels_last = is_channels_last(grad_output);
  Tensor grad_input = empty_map(grad_output, y.input_size, x.input_size, channels_last);
  if (grad_input.numel() == 0) {
    return grad_input;
  }
  const BilinearShape shape{grad_output.size(0), grad_output.size(1), y, x};
  on_device_of(grad_output, [&](cudaStream_t stream) {
    dispatch_floating(grad_output.scalar_type(), [&](auto zero) {
      using scalar_t = decltype(zero);
      launch_bilinear_backward<scalar_t>(
          shape, static_cast<const scalar_t*>(grad_output.const_data_ptr()),
          strides_of(grad_output), static_cast<scalar_t*>(grad_input.mutable_data_ptr()),
          channels_last, stream);
    });
  });
  return grad_input;
}

}  // namespace fcn_ext
