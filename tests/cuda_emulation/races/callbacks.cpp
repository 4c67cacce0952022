// What -fsanitize=thread makes the compiler call, here instead of in the sanitizer's library.
//
// The return address of a callback says where in the code the access is.
#include <cstring>

#include "races.h"

using races::checker;
using races::Kind;

#define RACES_PLACE __builtin_return_address(0)

extern "C" {

void __tsan_init() {}
void __tsan_func_entry(void* place) { checker().enter(place); }
void __tsan_func_exit() { checker().leave(); }

#define RACES_ACCESSES(bytes)                                    \
  void __tsan_read##bytes(void* address) {                       \
    checker().access(address, bytes, Kind::kRead, RACES_PLACE);  \
  }                                                              \
  void __tsan_write##bytes(void* address) {                      \
    checker().access(address, bytes, Kind::kWrite, RACES_PLACE); \
  }                                                              \
  void __tsan_unaligned_read##bytes(void* address) {             \
    checker().access(address, bytes, Kind::kRead, RACES_PLACE);  \
  }                                                              \
  void __tsan_unaligned_write##bytes(void* address) {            \
    checker().access(address, bytes, Kind::kWrite, RACES_PLACE); \
  }
RACES_ACCESSES(1)
RACES_ACCESSES(2)
RACES_ACCESSES(4)
RACES_ACCESSES(8)
RACES_ACCESSES(16)
#undef RACES_ACCESSES

void __tsan_read_range(void* address, unsigned long bytes) {
  checker().access(address, bytes, Kind::kRead, RACES_PLACE);
}
void __tsan_write_range(void* address, unsigned long bytes) {
  checker().access(address, bytes, Kind::kWrite, RACES_PLACE);
}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}

// In the host's code only: kernels use the emulation's atomics.
char __tsan_atomic8_load(const volatile char* address, int) { return *address; }

// See memory_calls.h.
void* races_memcpy(void* to, const void* from, size_t bytes) {
  checker().access(from, bytes, Kind::kRead, RACES_PLACE);
  checker().access(to, bytes, Kind::kWrite, RACES_PLACE);
  return std::memcpy(to, from, bytes);
}
void* races_memmove(void* to, const void* from, size_t bytes) {
  checker().access(from, bytes, Kind::kRead, RACES_PLACE);
  checker().access(to, bytes, Kind::kWrite, RACES_PLACE);
  return std::memmove(to, from, bytes);
}
void* races_memset(void* to, int value, size_t bytes) {
  checker().access(to, bytes, Kind::kWrite, RACES_PLACE);
  return std::memset(to, value, bytes);
}

}  // extern "C"
