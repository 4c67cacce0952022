// A block's shared memory: exactly its size, and the memory after it is watched.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>

namespace cuda_emulation {

class SharedMemory {
 public:
  explicit SharedMemory(size_t bytes);
  unsigned char* begin() const { return memory_.get(); }
  // Fills it with NaN, as every block finds it.
  void poison();
  // Throws if something was written after its end.
  void check() const;

 private:
  size_t bytes_, watched_bytes_;
  std::unique_ptr<unsigned char, decltype(&std::free)> memory_;
};

}  // namespace cuda_emulation
