#include "fuse_skip/fuse_skip_operators.h"

STABLE_TORCH_LIBRARY_IMPL(fcn_ext, CUDA, m) {
  fcn_ext::FuseSkipOperators<fcn_ext::BilinearCuda>::implement(m);
}
