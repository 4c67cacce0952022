// The element types of maps and labels, numbered as in the kernels' tables.
#pragma once

#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>

namespace fcn_ext {

// float 0, double 1, half 2, bfloat16 3; -1 for any other type.
inline int element_index(torch::headeronly::ScalarType type) {
  using torch::headeronly::ScalarType;
  switch (type) {
    case ScalarType::Float:
      return 0;
    case ScalarType::Double:
      return 1;
    case ScalarType::Half:
      return 2;
    case ScalarType::BFloat16:
      return 3;
    default:
      return -1;
  }
}

// uint8 0, int16 1, int32 2, int64 3; -1 for any other type.
inline int label_index(torch::headeronly::ScalarType type) {
  using torch::headeronly::ScalarType;
  switch (type) {
    case ScalarType::Byte:
      return 0;
    case ScalarType::Short:
      return 1;
    case ScalarType::Int:
      return 2;
    case ScalarType::Long:
      return 3;
    default:
      return -1;
  }
}

// The dtype in which scores of this dtype are summed (common/accumulate.h).
inline torch::headeronly::ScalarType accumulation_type(torch::headeronly::ScalarType type) {
  using torch::headeronly::ScalarType;
  return type == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

// The accumulation type as an index into tables of kernels: float 0, double 1.
inline int accumulation_index(torch::headeronly::ScalarType type) {
  return type == torch::headeronly::ScalarType::Double ? 1 : 0;
}

constexpr int64_t kElementBytes[] = {4, 8, 2, 2};

}  // namespace fcn_ext
