// A block's shared memory: of exactly its size, with what lies behind it watched.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>

namespace cuda_emulation {

class SharedMemory {
 public:
  explicit SharedMemory(size_t bytes);
  unsigned char* begin() const { return memory_.get(); }
  // As every block finds it: NaN.
  void poison();
  // Throws where something was written behind it.
  void check() const;

 private:
  size_t bytes_, watched_bytes_;
  std::unique_ptr<unsigned char, decltype(&std::free)> memory_;
};

}  // namespace cuda_emulation
