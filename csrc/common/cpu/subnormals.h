// Halves where torch.set_flush_denormal has float's subnormal numbers taken for zero.
#pragma once

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace fcn_ext {

// Some kernels widen a half by way of a subnormal float. While this lives, which is to be around a
// thread's call of kernels that read halves, those are numbers for the thread.
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
