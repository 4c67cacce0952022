#include "fuse_skip/fuse_skip_operators.h"

STABLE_TORCH_LIBRARY_IMPL(fcn_ext, CPU, m) {
  fcn_ext::FuseSkipOperators<fcn_ext::BilinearCpu>::implement(m);
}
