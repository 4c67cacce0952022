// The workspace that kernels are given.
#pragma once

#include <algorithm>
#include <memory>
#include <stdexcept>

// Memory of exactly `bytes` bytes, filled with NaN, aligned to 16.
struct Workspace {
  size_t bytes;
  std::unique_ptr<unsigned char[]> memory;

  explicit Workspace(size_t size) : bytes(size), memory(new unsigned char[size + 16]) {
    std::fill_n(memory.get(), size + 16, 0xff);
  }
  void* begin() const { return memory.get(); }
  void check() const {
    for (size_t k = bytes; k < bytes + 16; ++k) {
      if (memory[k] != 0xff) {
        throw std::runtime_error("a kernel wrote behind its workspace");
      }
    }
  }
};
