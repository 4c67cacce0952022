// fuse_skip: arguments to axes and a window. Shared by the CPU and the CUDA side.
#pragma once

#include "upsample/upsample.h"

namespace fcn_ext {

inline BilinearAxes check_fuse_skip(const torch::stable::Tensor& coarse,
                                    const torch::stable::Tensor& skip, int64_t offset_y,
                                    int64_t offset_x, int64_t stride) {
  check_map(coarse, "coarse");
  check_map(skip, "skip");
  check_same(coarse, "coarse", skip, "skip");
  FCN_EXT_CHECK(coarse.size(0) == skip.size(0) && coarse.size(1) == skip.size(1),
                "coarse and skip must agree in N and C, got ", shape_text(coarse), " and ",
                shape_text(skip));
  const int64_t kernel_size = stride == 1 ? 1 : 2 * stride;
  check_upsample_kernel(stride, kernel_size);
  const int64_t height = upsampled_size(coarse.size(2), stride, kernel_size);
  const int64_t width = upsampled_size(coarse.size(3), stride, kernel_size);
  FCN_EXT_CHECK(offset_y >= 0 && offset_x >= 0, "offset must be >= 0, got (", offset_y, ", ",
                offset_x, ")");
  FCN_EXT_CHECK(height <= skip.size(2) && offset_y <= skip.size(2) - height &&
                    width <= skip.size(3) && offset_x <= skip.size(3) - width,
                "skip must hold the upsampled size (", height, ", ", width, ") at offset (",
                offset_y, ", ", offset_x, "), got ", shape_text(skip));
  return {check_upsample_axis("height", coarse.size(2), height, stride, kernel_size, 0),
          check_upsample_axis("width", coarse.size(3), width, stride, kernel_size, 0)};
}

}  // namespace fcn_ext
