#include "interpolate/interpolate_operators.h"

STABLE_TORCH_LIBRARY_IMPL(fcn_ext, CPU, m) {
  fcn_ext::InterpolateOperators<fcn_ext::BilinearCpu>::implement(m);
}
