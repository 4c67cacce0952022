// The resampling engine behind upsample, interpolate and fuse_skip: the input of its CPU and CUDA
// kernels. Plain numbers, no tensors; sizes and strides are 64-bit, counted in elements.
#pragma once

#include "common/geometry.h"

namespace fcn_ext {

// Strides of an (N, C, H, W) view in any layout; zero and negative strides included.
struct PlaneStrides {
  int64_t batch, channel, row, column;
};

// input: (batch, channels, y.input_size, x.input_size); output: the same with output_size.
struct BilinearShape {
  int64_t batch, channels;
  BilinearAxis y, x;
};

struct BilinearAxes {
  BilinearAxis y, x;
};

// Strides of a dense (N, C, height, width) tensor, channels_last or contiguous.
FCN_EXT_HOST_DEVICE inline PlaneStrides dense_strides(int64_t channels, int64_t height,
                                                      int64_t width, bool channels_last) {
  if (channels_last) {
    return {channels * height * width, 1, width * channels, channels};
  }
  return {channels * height * width, height * width, width, 1};
}

}  // namespace fcn_ext
