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

static inline int64_t label_at(const LabelMap& map, int64_t n, int64_t y, int64_t x) {
  const int64_t at = n * map.stride[0] + y * map.stride[1] + x * map.stride[2];
  switch (map.type) {
    case 0:
      return static_cast<const uint8_t*>(map.data)[at];
    case 1:
      return static_cast<const int16_t*>(map.data)[at];
    case 2:
      return static_cast<const int32_t*>(map.data)[at];
    default:
      return static_cast<const int64_t*>(map.data)[at];
  }
}

}  // namespace fcn_ext
