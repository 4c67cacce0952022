// What the entry points share: geometries as Python passes them, and element types by number.
#pragma once

#include <cstdint>

#include "bilinear/bilinear.h"
#include "common/cuda/device.cuh"

namespace fcn_ext {

// maps.py's `Map` of a batch, as thirteen int64.
struct Geometry {
  int64_t batch, channels, input_height, input_width, output_height, output_width;
  int64_t map;  // 0: upsample, 1: interpolate, 2: interpolate with align_corners
  int64_t stride, kernel_size, offset_y, offset_x;
  int64_t uncropped_height, uncropped_width;  // of an interpolation

  BilinearShape shape() const {
    return {batch, channels, axis(input_height, output_height, offset_y, uncropped_height),
            axis(input_width, output_width, offset_x, uncropped_width)};
  }

 private:
  BilinearAxis axis(int64_t input_size, int64_t output_size, int64_t offset,
                    int64_t uncropped) const {
    if (map == 0) {
      return upsample_axis(input_size, output_size, stride, kernel_size, offset);
    }
    const BilinearAxis whole = interpolate_axis(input_size, uncropped, map == 2);
    return cropped(whole, offset, output_size, 0, input_size);
  }
};

// Calls run(pointer) with a null pointer to the element type, which `dtype` numbers as in SCORES of
// operands.py. Returns 0, or 1 after an exception.
template <typename Run>
int guarded_for_type(int64_t dtype, Run run) {
  return cuda_emulation::guarded([=] {
    switch (dtype) {
      case 0:
        return run(static_cast<float*>(nullptr));
      case 1:
        return run(static_cast<double*>(nullptr));
      case 2:
        return run(static_cast<c10::Half*>(nullptr));
      default:
        return run(static_cast<c10::BFloat16*>(nullptr));
    }
  });
}

}  // namespace fcn_ext
