// Large pages for large results on the host.
#pragma once

#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace fcn_ext {

// Above this size, glibc's malloc takes fresh memory from the system, unless it has a free piece as
// large, and gives it back when it is freed. The system clears each page when it is first written.
constexpr int64_t kAlwaysMapped = int64_t{32} << 20;
// On hosts that reclaim memory that a virtual machine does not use, large pages are faster up to
// this size only: the host reclaims large pages first and then has to find new ones.
constexpr int64_t kMostLargePages = int64_t{512} << 20;

// Asks for pages of 2 MiB instead of 4 KiB. A hint: if the system has none, nothing changes.
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
