// Maps that are resampled: how a tensor is viewed, how a result is laid out, and how a geometry and
// two sizes become axes. Axes are checked here only; fcn_ext/_rules.py has the same rules in the
// same order and words, for tensors that are only traced.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <vector>

#include "bilinear/bilinear.h"
#include "common/allocate.h"
#include "common/check.h"

namespace fcn_ext {

inline PlaneStrides strides_of(const torch::stable::Tensor& map) {
  return {map.stride(0), map.stride(1), map.stride(2), map.stride(3)};
}

// Channels are adjacent: what torch calls channels_last, for a dense map or a window of one.
// fcn_ext/ops/_common.py has the same rule for the shapes that torch.compile traces.
inline bool is_channels_last(const torch::stable::Tensor& map) {
  return map.size(1) > 1 && map.stride(1) == 1 && map.stride(3) >= map.size(1);
}

inline torch::stable::Tensor empty_map(const torch::stable::Tensor& like, int64_t height,
                                       int64_t width, bool channels_last) {
  return empty_like_in(like, {like.size(0), like.size(1), height, width}, like.scalar_type(),
                       channels_last);
}

// How coarse scores reach another size: a Deconvolution or a Resize of fcn_ext/geometry.py.
struct Geometry {
  bool deconvolution;
  int64_t stride, kernel_size, offset_y, offset_x;  // for a deconvolution
  bool align_corners;                               // for a resize
};

inline Geometry deconvolution(int64_t stride, int64_t kernel_size, int64_t offset_y,
                              int64_t offset_x) {
  FCN_EXT_CHECK(stride >= 1 && stride <= kLargestSize, "stride must be in [1, 2**30], got ",
                stride);
  FCN_EXT_CHECK(kernel_size == 2 * stride || kernel_size == 2 * stride - 1,
                "kernel_size must be 2 * stride or 2 * stride - 1 = ", 2 * stride, " or ",
                2 * stride - 1, ", got ", kernel_size);
  FCN_EXT_CHECK(offset_y >= 0 && offset_x >= 0, "offset must be >= 0, got (", offset_y, ", ",
                offset_x, ")");
  return {true, stride, kernel_size, offset_y, offset_x, false};
}

inline Geometry resize(bool align_corners) { return {false, 0, 0, 0, 0, align_corners}; }

// The numbers that stand for a geometry in a schema: (stride, kernel_size, offset_y, offset_x) for
// a deconvolution, (align_corners) for a resize.
inline Geometry check_geometry(const std::vector<int64_t>& numbers) {
  FCN_EXT_CHECK(numbers.size() == 4 || numbers.size() == 1,
                "geometry must be (stride, kernel_size, offset_y, offset_x) or (align_corners,), "
                "got ",
                numbers.size(), " numbers");
  return numbers.size() == 4 ? deconvolution(numbers[0], numbers[1], numbers[2], numbers[3])
                             : resize(numbers[0] != 0);
}

// `size` names what the output must be as large as: the caller's argument.
inline BilinearAxis check_deconvolution_axis(const Geometry& geometry, const char* axis,
                                             int64_t offset, int64_t input_size,
                                             int64_t output_size, const char* size) {
  const int64_t full = upsampled_size(input_size, geometry.stride, geometry.kernel_size);
  FCN_EXT_CHECK(full <= kLargestSize, "stride must keep the upsampled ", axis,
                " at most 2**30, got ", geometry.stride, " for ", input_size);
  FCN_EXT_CHECK(offset < full, "offset must be below the upsampled ", axis, " ", full, ", got ",
                offset);
  FCN_EXT_CHECK(output_size >= 1, size, " must be >= 1, got ", output_size, " along the ", axis);
  FCN_EXT_CHECK(output_size <= full - offset, "offset + ", size, " must be at most the upsampled ",
                axis, " ", full, ", got ", offset, " + ", output_size);
  return upsample_axis(input_size, output_size, geometry.stride, geometry.kernel_size, offset);
}

// The axes from one size to another, for maps that passed check_map.
inline BilinearAxes check_axes(const Geometry& geometry, int64_t input_height, int64_t input_width,
                               int64_t output_height, int64_t output_width, const char* size) {
  if (geometry.deconvolution) {
    return {check_deconvolution_axis(geometry, "height", geometry.offset_y, input_height,
                                     output_height, size),
            check_deconvolution_axis(geometry, "width", geometry.offset_x, input_width,
                                     output_width, size)};
  }
  FCN_EXT_CHECK(output_height >= 1 && output_width >= 1 && output_height <= kLargestSize &&
                    output_width <= kLargestSize,
                size, " must be in [1, 2**30], got (", output_height, ", ", output_width, ")");
  return {interpolate_axis(input_height, output_height, geometry.align_corners),
          interpolate_axis(input_width, output_width, geometry.align_corners)};
}

// For a map that is resampled to a size.
inline BilinearAxes check_forward(const torch::stable::Tensor& input, const Geometry& geometry,
                                  int64_t output_height, int64_t output_width, const char* size) {
  check_map(input, "input");
  return check_axes(geometry, input.size(2), input.size(3), output_height, output_width, size);
}

// For the gradient of a map of some size.
inline BilinearAxes check_backward(const torch::stable::Tensor& grad_output,
                                   const Geometry& geometry, int64_t input_height,
                                   int64_t input_width) {
  check_map(grad_output, "grad_output");
  FCN_EXT_CHECK(input_height >= 1 && input_width >= 1 && input_height <= kLargestSize &&
                    input_width <= kLargestSize,
                "input size must be in [1, 2**30], got (", input_height, ", ", input_width, ")");
  return check_axes(geometry, input_height, input_width, grad_output.size(2), grad_output.size(3),
                    "the size of grad_output");
}

// For coarse scores that are upsampled by `stride` and added to a window of `skip`.
inline BilinearAxes check_fuse_skip(const torch::stable::Tensor& coarse,
                                    const torch::stable::Tensor& skip, int64_t offset_y,
                                    int64_t offset_x, int64_t stride) {
  check_map(coarse, "coarse");
  check_map(skip, "skip");
  check_same(coarse, "coarse", skip, "skip");
  FCN_EXT_CHECK(coarse.size(0) == skip.size(0) && coarse.size(1) == skip.size(1),
                "coarse and skip must agree in N and C, got ", shape_text(coarse), " and ",
                shape_text(skip));
  FCN_EXT_CHECK(stride >= 1 && stride <= kLargestSize, "stride must be in [1, 2**30], got ",
                stride);
  const Geometry geometry = deconvolution(stride, stride == 1 ? 1 : 2 * stride, 0, 0);
  FCN_EXT_CHECK(offset_y >= 0 && offset_x >= 0, "offset must be >= 0, got (", offset_y, ", ",
                offset_x, ")");
  const int64_t height = upsampled_size(coarse.size(2), stride, geometry.kernel_size);
  const int64_t width = upsampled_size(coarse.size(3), stride, geometry.kernel_size);
  FCN_EXT_CHECK(height <= skip.size(2) && offset_y <= skip.size(2) - height &&
                    width <= skip.size(3) && offset_x <= skip.size(3) - width,
                "skip must hold the upsampled size (", height, ", ", width, ") at offset (",
                offset_y, ", ", offset_x, "), got ", shape_text(skip));
  return check_axes(geometry, coarse.size(2), coarse.size(3), height, width, "size");
}

}  // namespace fcn_ext
