// Access to label maps of any dtype.
#pragma once

#include "common/cuda/device.cuh"
#include "common/labels.h"

namespace fcn_ext {

// Calls body(pointer to the first label), a pointer to const if `data` is one.
template <typename Data, typename Body>
__device__ __forceinline__ auto with_labels(Data* data, int type, const Body& body) {
  constexpr bool kConst = std::is_const_v<Data>;
  switch (type) {
    case 0:
      return body(static_cast<std::conditional_t<kConst, const uint8_t, uint8_t>*>(data));
    case 1:
      return body(static_cast<std::conditional_t<kConst, const int16_t, int16_t>*>(data));
    case 2:
      return body(static_cast<std::conditional_t<kConst, const int32_t, int32_t>*>(data));
    default:
      return body(static_cast<std::conditional_t<kConst, const int64_t, int64_t>*>(data));
  }
}

}  // namespace fcn_ext
