// Label maps as kernels see them: plain memory, no tensors.
#pragma once

#include <cstdint>

namespace fcn_ext {

// One (N, H, W) label map; strides in elements. type: 0 uint8, 1 int16, 2 int32, 3 int64.
struct LabelMap {
  const void* data;
  int type;
  int64_t stride[3];
};

struct LabelShape {
  int64_t batch, height, width;
};

constexpr int64_t kLabelBytes[] = {1, 2, 4, 8};

}  // namespace fcn_ext
