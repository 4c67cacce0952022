// The type in which values are summed: double for double, float for all others. One rule for
// kernels on both devices (accumulate_of) and for tensors (accumulation_type, common/types.h).
#pragma once

namespace fcn_ext {

template <typename element_t>
struct Accumulate {
  using type = float;
};
template <>
struct Accumulate<double> {
  using type = double;
};
template <typename element_t>
using accumulate_of = typename Accumulate<element_t>::type;

}  // namespace fcn_ext
