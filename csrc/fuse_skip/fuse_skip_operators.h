// The operator fuse_skip, once for both devices (BilinearCpu, BilinearCuda).
#pragma once

#include <torch/csrc/stable/library.h>

#include "fuse_skip/fuse_skip.h"

namespace fcn_ext {

template <typename Device>
struct FuseSkipOperators {
  using Tensor = torch::stable::Tensor;

  static Tensor fuse_skip(Tensor coarse, Tensor skip, int64_t offset_y, int64_t offset_x,
                          int64_t stride) {
    const BilinearAxes axes = check_fuse_skip(coarse, skip, offset_y, offset_x, stride);
    const SkipWindow window{skip, offset_y, offset_x};
    return Device::forward(coarse, axes, &window);
  }

  template <typename Library>
  static void implement(Library& m) {
    m.impl("fuse_skip", TORCH_BOX(&FuseSkipOperators::fuse_skip));
  }
};

}  // namespace fcn_ext
