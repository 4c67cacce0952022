// torch's threads for code that knows no torch.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <cstdint>
#include <functional>

namespace fcn_ext {

inline void torch_parallel_for(int64_t count, int64_t grain,
                               const std::function<void(int64_t, int64_t)>& body) {
  torch::stable::parallel_for(0, count, grain, body);
}

}  // namespace fcn_ext
