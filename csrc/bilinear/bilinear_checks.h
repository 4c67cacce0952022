// Maps that are resampled: how a tensor is viewed, how a result is laid out, and how a geometry and
// two sizes become axes. Axes are checked here only; fcn_ext/_rules.py has the same rules in the
// same order and words, for tensors that are only traced.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
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
  int64_t stride, kernel_size;               // for a deconvolution
  bool align_corners;                        // for a resize
  int64_t offset_y, offset_x;                // where the output starts in what is cropped
  int64_t uncropped_y = 0, uncropped_x = 0;  // the size that a resize is to; 0: that of the output
  // The size of the map of which the input holds the nodes from these on; 0: it holds all.
  int64_t nodes_y = 0, nodes_x = 0, node_y = 0, node_x = 0;
};

inline void check_offset(int64_t offset_y, int64_t offset_x) {
  FCN_EXT_CHECK(offset_y >= 0 && offset_x >= 0, "offset must be >= 0, got (", offset_y, ", ",
                offset_x, ")");
}

inline void check_size(int64_t height, int64_t width, const char* name) {
  FCN_EXT_CHECK(height >= 1 && width >= 1 && height <= kLargestSize && width <= kLargestSize, name,
                " must be in [1, 2**30], got (", height, ", ", width, ")");
}

inline Geometry deconvolution(int64_t stride, int64_t kernel_size, int64_t offset_y,
                              int64_t offset_x) {
  FCN_EXT_CHECK(stride >= 1 && stride <= kLargestSize, "stride must be in [1, 2**30], got ",
                stride);
  FCN_EXT_CHECK(kernel_size == 2 * stride || kernel_size == 2 * stride - 1,
                "kernel_size must be 2 * stride or 2 * stride - 1 = ", 2 * stride, " or ",
                2 * stride - 1, ", got ", kernel_size);
  check_offset(offset_y, offset_x);
  return {true, stride, kernel_size, false, offset_y, offset_x};
}

// The numbers that stand for a geometry in a schema: those of fcn_ext/geometry.py, or nine for an
// input that is a part, ResizeOfPart of fcn_ext/prediction/_rows.py.
inline Geometry check_geometry(const std::vector<int64_t>& numbers) {
  const size_t count = numbers.size();
  FCN_EXT_CHECK(count == 4 || count == 1 || count == 5 || count == 9,
                "geometry must be (stride, kernel_size, offset_y, offset_x), (align_corners,) or "
                "(align_corners, height, width, offset_y, offset_x), got ",
                count, " numbers");
  if (count == 4) {
    return deconvolution(numbers[0], numbers[1], numbers[2], numbers[3]);
  }
  Geometry geometry{false, 0, 0, numbers[0] != 0, 0, 0};
  if (count >= 5) {
    check_size(numbers[1], numbers[2], "uncropped_size");
    check_offset(numbers[3], numbers[4]);
    geometry.uncropped_y = numbers[1];
    geometry.uncropped_x = numbers[2];
    geometry.offset_y = numbers[3];
    geometry.offset_x = numbers[4];
  }
  if (count == 9) {
    check_size(numbers[5], numbers[6], "the uncropped input");
    check_offset(numbers[7], numbers[8]);
    geometry.nodes_y = numbers[5];
    geometry.nodes_x = numbers[6];
    geometry.node_y = numbers[7];
    geometry.node_x = numbers[8];
  }
  return geometry;
}

// `crop`: the numbers of a Resize beside align_corners.
inline Geometry check_resize(bool align_corners, const std::optional<std::vector<int64_t>>& crop) {
  std::vector<int64_t> numbers{align_corners};
  if (crop) {
    FCN_EXT_CHECK(crop->size() == 4 || crop->size() == 8,
                  "crop must be (height, width, offset_y, offset_x), got ", crop->size(),
                  " numbers");
    numbers.insert(numbers.end(), crop->begin(), crop->end());
  }
  return check_geometry(numbers);
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

// The axis of a resize that is cropped at `offset`, of which the input holds the nodes from `node`
// on. `uncropped` and `nodes` are the sizes without the crops.
inline BilinearAxis check_cropped_axis(const char* axis, int64_t input_size, int64_t output_size,
                                       int64_t uncropped, int64_t offset, int64_t nodes,
                                       int64_t node, bool align_corners, const char* size) {
  FCN_EXT_CHECK(output_size <= uncropped - offset, "offset + ", size,
                " must be at most the uncropped ", axis, " ", uncropped, ", got ", offset, " + ",
                output_size);
  FCN_EXT_CHECK(input_size <= nodes - node, "input must be a window of ", nodes,
                " nodes along the ", axis, ", got ", input_size, " from ", node, " on");
  const BilinearAxis found = cropped(interpolate_axis(nodes, uncropped, align_corners), offset,
                                     output_size, node, input_size);
  FCN_EXT_CHECK(reads_within(found, node > 0, node + input_size < nodes),
                "input must hold all nodes that the output reads along the ", axis, ", got ",
                input_size, " from ", node, " on");
  return found;
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
  check_size(output_height, output_width, size);
  if (geometry.uncropped_y == 0) {
    return {interpolate_axis(input_height, output_height, geometry.align_corners),
            interpolate_axis(input_width, output_width, geometry.align_corners)};
  }
  const bool whole = geometry.nodes_y == 0;
  return {check_cropped_axis("height", input_height, output_height, geometry.uncropped_y,
                             geometry.offset_y, whole ? input_height : geometry.nodes_y,
                             geometry.node_y, geometry.align_corners, size),
          check_cropped_axis("width", input_width, output_width, geometry.uncropped_x,
                             geometry.offset_x, whole ? input_width : geometry.nodes_x,
                             geometry.node_x, geometry.align_corners, size)};
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
  check_size(input_height, input_width, "input size");
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
  check_offset(offset_y, offset_x);
  const int64_t height = upsampled_size(coarse.size(2), stride, geometry.kernel_size);
  const int64_t width = upsampled_size(coarse.size(3), stride, geometry.kernel_size);
  FCN_EXT_CHECK(height <= skip.size(2) && offset_y <= skip.size(2) - height &&
                    width <= skip.size(3) && offset_x <= skip.size(3) - width,
                "skip must hold the upsampled size (", height, ", ", width, ") at offset (",
                offset_y, ", ", offset_x, "), got ", shape_text(skip));
  return check_axes(geometry, coarse.size(2), coarse.size(3), height, width, "size");
}

}  // namespace fcn_ext
