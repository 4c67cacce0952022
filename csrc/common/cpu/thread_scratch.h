// A thread's own scratch memory: 64-byte aligned, reused by later calls, freed with the thread.
#pragma once

#include <cstddef>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>

namespace fcn_ext {

inline void* thread_scratch(std::size_t bytes) {
  constexpr std::align_val_t kCacheLine{64};
  struct Free {
    void operator()(void* memory) const { ::operator delete(memory, kCacheLine); }
  };
  thread_local std::unique_ptr<void, Free> memory;
  thread_local std::size_t size = 0;
  if (bytes > size) {
    memory.reset();
    size = 0;
    memory.reset(::operator new(bytes, kCacheLine, std::nothrow));
    if (memory == nullptr) {
      throw std::runtime_error("out of memory? No scratch of " + std::to_string(bytes) +
                               " bytes could be made");
    }
    size = bytes;
  }
  return memory.get();
}

}  // namespace fcn_ext
