// torch's threads, with the messages of errors preserved.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <string>

namespace fcn_ext {

// Calls body(begin, end) on pieces of [0, count), possibly concurrently. The stable ABI reduces an
// exception to an error code, so the message of the first one is kept and thrown again here.
template <typename Body>
void parallel_for(int64_t count, int64_t grain, const Body& body) {
  std::string error;
  std::mutex mutex;
  torch::stable::parallel_for(0, count, grain, [&](int64_t begin, int64_t end) {
    try {
      body(begin, end);
    } catch (const std::exception& exception) {
      const std::lock_guard<std::mutex> lock(mutex);
      error = error.empty() ? exception.what() : error;
    }
  });
  if (!error.empty()) {
    throw std::runtime_error(error);
  }
}

// parallel_for, for code that does not include torch.
inline void torch_parallel_for(int64_t count, int64_t grain,
                               const std::function<void(int64_t, int64_t)>& body) {
  parallel_for(count, grain, body);
}

}  // namespace fcn_ext
