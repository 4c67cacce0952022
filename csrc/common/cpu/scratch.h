// Divides the scratch memory of a call, which thread_scratch.h allocates, into arrays. For
// *kernels.cpp files only (common/cpu/capability.h says why the anonymous namespace).
#pragma once

#include <cstdint>

namespace fcn_ext {
namespace {

constexpr int64_t kAlign = 64;  // elements, so that every piece starts on a cache line

inline int64_t padded(int64_t count) { return (count + kAlign - 1) / kAlign * kAlign; }

// Without memory, it only adds up the bytes needed.
struct Scratch {
  char* memory;
  int64_t used = 0;

  template <typename T>
  T* take(int64_t count) {
    if (count == 0) {
      return nullptr;
    }
    T* taken = reinterpret_cast<T*>(memory + used);
    used += padded(count) * static_cast<int64_t>(sizeof(T));
    return taken;
  }
};

}  // namespace
}  // namespace fcn_ext
