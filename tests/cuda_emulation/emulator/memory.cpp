// What threads do to memory: counted and aligned accesses, late copies, shared memory.
#include "memory.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

#include <algorithm>
#include <cstring>

#include "errors.h"
#include "fibers.h"
#include "observer.h"

namespace cuda_emulation {

namespace {

constexpr size_t kRedZone = 256;
constexpr unsigned char kRedZoneByte = 0xa5;

}  // namespace

Traffic& traffic() {
  static Traffic values;
  return values;
}

namespace {

[[noreturn]] void fail_misaligned(const void* address, size_t alignment) {
  fail("misaligned access: an address ending in " +
       std::to_string(reinterpret_cast<uintptr_t>(address) % 64) + " must be a multiple of " +
       std::to_string(alignment));
}

void require_alignment(const void* address, size_t alignment) {
  if (reinterpret_cast<uintptr_t>(address) % alignment != 0) {
    fail_misaligned(address, alignment);
  }
}

}  // namespace

void note_load(const void* address, size_t bytes, size_t alignment) {
  require_alignment(address, alignment);
  traffic().loaded += bytes;
  traffic().vector_loads += bytes == 16;
}

void note_store(const void* address, size_t bytes, size_t alignment) {
  require_alignment(address, alignment);
  traffic().stored += bytes;
  traffic().vector_stores += bytes == 16;
}

// ---------------------------------------------------------------- shared memory

SharedMemory::SharedMemory(size_t bytes)
    : bytes_(bytes),
      watched_bytes_((bytes + 15) / 16 * 16 + kRedZone - bytes),
      memory_(static_cast<unsigned char*>(
                  std::aligned_alloc(256, (bytes_ + watched_bytes_ + 255) / 256 * 256)),
              std::free) {
  std::fill_n(begin() + bytes_, watched_bytes_, kRedZoneByte);
#if defined(__SANITIZE_ADDRESS__)
  __asan_poison_memory_region(begin() + bytes_, watched_bytes_);
#endif
}

void SharedMemory::poison() { std::fill_n(begin(), bytes_, 0xff); }

void SharedMemory::check() const {
  const unsigned char* watched = begin() + bytes_;
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(watched, watched_bytes_);
#endif
  require(std::all_of(watched, watched + watched_bytes_,
                      [](unsigned char byte) { return byte == kRedZoneByte; }),
          "a kernel wrote behind its " + std::to_string(bytes_) + " bytes of shared memory");
}

// ---------------------------------------------------------------- asynchronous copies

void copy_async(void* shared, const void* global, size_t bytes) {
  for (const void* address : {static_cast<const void*>(shared), global}) {
    if ((bytes != 4 && bytes != 8 && bytes != 16) ||
        reinterpret_cast<uintptr_t>(address) % bytes != 0) {
      fail_misaligned(address, bytes);
    }
  }
  traffic().loaded += bytes;
  observer->copy_begins(shared, global, bytes, __builtin_return_address(0));
  const bool at_once = random_number() % 2 == 0;
  if (at_once) {
    std::memcpy(shared, global, bytes);
  }
  team.running->copies.push_back({shared, global, bytes, team.running->group, at_once});
}

void commit_copies() { ++team.running->group; }

void wait_for_copies(size_t groups_left) {
  auto& copies = team.running->copies;
  auto copy = copies.begin();
  for (; copy != copies.end() && copy->group + groups_left < team.running->group; ++copy) {
    if (!copy->there) {
      std::memcpy(copy->shared, copy->global, copy->bytes);
    }
    observer->copy_ends(copy->shared, copy->global, copy->bytes);
  }
  copies.erase(copies.begin(), copy);
}

// ---------------------------------------------------------------- atomics

namespace {

// Only one fiber runs at a time, so no atomic instruction is needed. Now and then another thread
// gets its turn before the operation.
template <typename T>
T begin_atomic(const T* address, void* place) {
  maybe_yield();
  note_load(address, sizeof(T), sizeof(T));
  observer->atomic(address, sizeof(T), place);
  return *address;
}

template <typename T>
void end_atomic(T* address, T value) {
  note_store(address, sizeof(T), sizeof(T));
  *address = value;
}

}  // namespace

}  // namespace cuda_emulation

#define CUDA_EMULATION_ATOMICS(T)                                                     \
  T atomicAdd(T* address, T value) {                                                  \
    const T old = cuda_emulation::begin_atomic(address, __builtin_return_address(0)); \
    cuda_emulation::end_atomic(address, static_cast<T>(old + value));                 \
    return old;                                                                       \
  }                                                                                   \
  T atomicCAS(T* address, T expected, T desired) {                                    \
    const T old = cuda_emulation::begin_atomic(address, __builtin_return_address(0)); \
    if (old == expected) {                                                            \
      cuda_emulation::end_atomic(address, desired);                                   \
    }                                                                                 \
    return old;                                                                       \
  }
CUDA_EMULATION_ATOMICS(int)
CUDA_EMULATION_ATOMICS(unsigned)
CUDA_EMULATION_ATOMICS(unsigned long long)
#undef CUDA_EMULATION_ATOMICS

unsigned atomicInc(unsigned* address, unsigned most) {
  const unsigned old = cuda_emulation::begin_atomic(address, __builtin_return_address(0));
  cuda_emulation::end_atomic(address, old >= most ? 0 : old + 1);
  return old;
}

void __threadfence() { cuda_emulation::observer->fence(); }
