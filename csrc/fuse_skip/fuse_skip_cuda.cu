#include <torch/csrc/stable/library.h>

#include "fuse_skip/fuse_skip.h"

namespace fcn_ext {
namespace {

using torch::stable::Tensor;

Tensor fuse_skip_cuda(Tensor coarse, Tensor skip, int64_t offset_y, int64_t offset_x,
                      int64_t stride) {
  const BilinearAxes axes = check_fuse_skip(coarse, skip, offset_y, offset_x, stride);
  const SkipWindow window{skip, offset_y, offset_x};
  return bilinear_forward_cuda(coarse, axes.y, axes.x, &window);
}

}  // namespace
}  // namespace fcn_ext

STABLE_TORCH_LIBRARY_IMPL(fcn_ext, CUDA, m) {
  m.impl("fuse_skip", TORCH_BOX(&fcn_ext::fuse_skip_cuda));
}
