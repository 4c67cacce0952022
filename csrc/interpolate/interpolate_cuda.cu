#include "interpolate/interpolate_operators.h"

STABLE_TORCH_LIBRARY_IMPL(fcn_ext, CUDA, m) {
  fcn_ext::InterpolateOperators<fcn_ext::BilinearCuda>::implement(m);
}
