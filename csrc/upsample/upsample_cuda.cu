#include "upsample/upsample_operators.h"

STABLE_TORCH_LIBRARY_IMPL(fcn_ext, CUDA, m) {
  fcn_ext::UpsampleOperators<fcn_ext::BilinearCuda>::implement(m);
}
