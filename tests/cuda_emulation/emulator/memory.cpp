// What threads do to memory: accesses counted and aligned, copies that arrive late, shared memory.
#include "memory.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

#include <algorithm>
#include <cstring>

#include "errors.h"
#include "fibers.h"

namespace cuda_emulation {

namespace {

constexpr size_t kRedZone = 256;
constexpr unsigned char kRedZoneByte = 0xa5;

}  // namespace

Traffic& traffic() {
  static Traffic values;
  return values;
}

void fail_misaligned(const void* address, size_t alignment) {
  fail("misaligned access: an address ending in " +
       std::to_string(reinterpret_cast<uintptr_t>(address) % 64) + " must be a multiple of " +
       std::to_string(alignment));
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
  if (random_number() % 2 == 0) {
    std::memcpy(shared, global, bytes);
  } else {
    team.running->copies.push_back({shared, global, bytes, team.running->group});
  }
}

void commit_copies() { ++team.running->group; }

void wait_for_copies(size_t groups_left) {
  auto& copies = team.running->copies;
  auto copy = copies.begin();
  for (; copy != copies.end() && copy->group + groups_left < team.running->group; ++copy) {
    std::memcpy(copy->shared, copy->global, copy->bytes);
  }
  copies.erase(copies.begin(), copy);
}

}  // namespace cuda_emulation
