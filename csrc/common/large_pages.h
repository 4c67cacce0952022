// Large pages for large results on the host.
#pragma once

#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace fcn_ext {

// Above this, glibc's malloc takes memory from the system anew, unless it was left with as much in
// one piece, and gives it back when it is freed. The system clears it a page at a time, when it is
// first written.
constexpr int64_t kAlwaysMapped = int64_t{32} << 20;
// Up to here they are the faster ones where a host takes back what a virtual machine does not use:
// large pages, most of all, which it then has to find again.
constexpr int64_t kMostLargePages = int64_t{512} << 20;

// Asks for pages of 2 MiB in place of 4 KiB. A hint: where the system has none, nothing changes.
inline void ask_for_large_pages(void* data, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  if (bytes < kAlwaysMapped || bytes > kMostLargePages) {
    return;
  }
  constexpr uintptr_t kPage = 4096;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(data) + kPage - 1) / kPage * kPage;
  const uintptr_t end =
      (reinterpret_cast<uintptr_t>(data) + static_cast<uintptr_t>(bytes)) / kPage * kPage;
  madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  (void)data;
  (void)bytes;
#endif
}

}  // namespace fcn_ext
