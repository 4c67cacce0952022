// torch's threads, whose errors arrive as they were thrown.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>

namespace fcn_ext {

// Calls body(begin, end) on pieces of [0, count), perhaps at the same time. The stable ABI between
// torch and here takes any exception for a number; so the first one is kept, and thrown again.
template <typename Body>
void parallel_for(int64_t count, int64_t grain, const Body& body) {
  std::exception_ptr error;
  std::mutex mutex;
  torch::stable::parallel_for(0, count, grain, [&](int64_t begin, int64_t end) {
    try {
      body(begin, end);
    } catch (...) {
      const std::lock_guard<std::mutex> lock(mutex);
      error = error ? error : std::current_exception();
    }
  });
  if (error) {
    std::rethrow_exception(error);
  }
}

// The same for code that knows no torch.
inline void torch_parallel_for(int64_t count, int64_t grain,
                               const std::function<void(int64_t, int64_t)>& body) {
  parallel_for(count, grain, body);
}

}  // namespace fcn_ext
