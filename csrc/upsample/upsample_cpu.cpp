#include "upsample/upsample_operators.h"

STABLE_TORCH_LIBRARY_IMPL(fcn_ext, CPU, m) {
  fcn_ext::UpsampleOperators<fcn_ext::BilinearCpu>::implement(m);
}
