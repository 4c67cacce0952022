// Argument checks shared by the CPU and the CUDA side of every operator. A message names the
// argument, the rule and the value found; Python sees a ValueError.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cctype>
#include <cstdint>
#include <limits>
#include <sstream>
#include <string>
#include <type_traits>

#include "common/refusal.h"
#include "common/types.h"

namespace fcn_ext {

// A number in the fewest digits, at least six, that tell it apart: just above 1 is not "1".
template <typename T>
std::string number_text(T number) {
  std::string text;
  T read = 0;
  for (int digits = 6; digits <= std::numeric_limits<T>::max_digits10; ++digits) {
    std::ostringstream stream;
    stream.precision(digits);
    stream << number;
    text = stream.str();
    if (std::istringstream(text) >> read && read == number) {
      break;
    }
  }
  return text;
}

template <typename... Parts>
std::string join(const Parts&... parts) {
  std::ostringstream stream;
  const auto put = [&](const auto& part) {
    if constexpr (std::is_floating_point_v<std::decay_t<decltype(part)>>) {
      stream << number_text(part);
    } else {
      stream << part;
    }
  };
  (put(parts), ...);
  return stream.str();
}

#define FCN_EXT_CHECK(condition, ...)                         \
  do {                                                        \
    if (!(condition)) {                                       \
      throw ::fcn_ext::Refusal(::fcn_ext::join(__VA_ARGS__)); \
    }                                                         \
  } while (false)

inline std::string sizes_text(const int64_t* sizes, size_t dims) {
  std::ostringstream stream;
  stream << '(';
  for (size_t d = 0; d < dims; ++d) {
    stream << (d > 0 ? ", " : "") << sizes[d];
  }
  stream << (dims == 1 ? ",)" : ")");
  return stream.str();
}

inline std::string shape_text(const torch::stable::Tensor& tensor) {
  return sizes_text(tensor.sizes().data(), tensor.sizes().size());
}

// The dtype's name in Python, without "torch.".
inline std::string dtype_text(torch::headeronly::ScalarType type) {
  using torch::headeronly::ScalarType;
  switch (type) {
    case ScalarType::Float:
      return "float32";
    case ScalarType::Double:
      return "float64";
    case ScalarType::Half:
      return "float16";
    case ScalarType::BFloat16:
      return "bfloat16";
    case ScalarType::Byte:
      return "uint8";
    case ScalarType::Char:
      return "int8";
    case ScalarType::Short:
      return "int16";
    case ScalarType::Int:
      return "int32";
    case ScalarType::Long:
      return "int64";
    case ScalarType::Bool:
      return "bool";
    case ScalarType::ComplexFloat:
      return "complex64";
    case ScalarType::ComplexDouble:
      return "complex128";
    case ScalarType::ComplexHalf:
      return "complex32";
    default: {  // UInt16, Float8_e5m2 and others: lower case in Python
      std::string text = torch::headeronly::toString(type);
      for (char& letter : text) {
        letter = static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
      }
      return text;
    }
  }
}

inline std::string dtype_text(const torch::stable::Tensor& tensor) {
  return dtype_text(tensor.scalar_type());
}

// Sizes and strides of maps stay below this, so that products of two of them fit in 64 bits.
constexpr int64_t kLargestSize = int64_t{1} << 30;

// A float (N, C, H, W) map. `spatial` asks for at least one row and one column.
inline void check_map(const torch::stable::Tensor& map, const char* name, bool spatial = true) {
  FCN_EXT_CHECK(map.dim() == 4, name, " must have shape (N, C, H, W), got ", shape_text(map));
  FCN_EXT_CHECK(element_index(map.scalar_type()) >= 0, name,
                " must be float32, float64, float16 or bfloat16, got ", dtype_text(map));
  FCN_EXT_CHECK(!spatial || (map.size(2) > 0 && map.size(3) > 0), name,
                " must have at least one row and one column, got ", shape_text(map));
  FCN_EXT_CHECK(map.size(2) <= kLargestSize && map.size(3) <= kLargestSize, name,
                " must have at most 2**30 rows and columns, got ", shape_text(map));
}

inline void check_same(const torch::stable::Tensor& a, const char* a_name,
                       const torch::stable::Tensor& b, const char* b_name) {
  FCN_EXT_CHECK(a.scalar_type() == b.scalar_type(), a_name, " and ", b_name,
                " must have the same dtype, got ", dtype_text(a), " and ", dtype_text(b));
  FCN_EXT_CHECK(a.device() == b.device(), a_name, " and ", b_name,
                " must be on the same device, but are not");
}

}  // namespace fcn_ext
