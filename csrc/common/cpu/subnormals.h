// Reading halves while torch.set_flush_denormal makes the CPU treat subnormal floats as zero.
#pragma once

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace fcn_ext {

// Some kernels widen a half by way of a subnormal float. While an object of this class lives, its
// thread reads subnormal floats as they are. Create one around a thread's calls of kernels that
// read halves.
class HalvesReadWhole {
 public:
#if defined(__SSE2__)
  explicit HalvesReadWhole(bool reads_halves) : state_(_mm_getcsr()) {
    changed_ = reads_halves && (state_ & kSubnormalsAreZero) != 0;
    if (changed_) {
      _mm_setcsr(state_ & ~kSubnormalsAreZero);
    }
  }
  ~HalvesReadWhole() {
    if (changed_) {
      _mm_setcsr(state_);
    }
  }
#else
  explicit HalvesReadWhole(bool) {}
#endif
  HalvesReadWhole(const HalvesReadWhole&) = delete;
  HalvesReadWhole& operator=(const HalvesReadWhole&) = delete;

#if defined(__SSE2__)
 private:
  static constexpr unsigned kSubnormalsAreZero = 0x40;
  unsigned state_;
  bool changed_ = false;
#endif
};

}  // namespace fcn_ext
