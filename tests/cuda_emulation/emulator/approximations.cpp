#include "approximations.h"

#include <cmath>
#include <cstring>
#include <type_traits>

namespace {

using cuda_emulation::Approximation;

Approximation approximation = Approximation::kExact;
uint64_t seed = 0;

enum class Function : uint64_t { kEx2 = 1, kRcp, kExpf, kLogf, kExp, kLog };

template <typename T>
uint64_t bits_of(T value) {
  std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t> bits;
  std::memcpy(&bits, &value, sizeof(T));
  return bits;
}

// Drawn for the argument: the same argument always has the same error, as in hardware.
uint64_t drawn(Function function, uint64_t argument) {
  uint64_t z = (argument + (seed << 32 | seed >> 32)) * 0x9e3779b97f4a7c15u +
               static_cast<uint64_t>(function);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

int error_in_ulp(Function function, uint64_t argument, int most) {
  const auto below = [&](int count) {
    return static_cast<int>(drawn(function, argument) % static_cast<uint64_t>(count));
  };
  switch (approximation) {
    case Approximation::kExact:
      return 0;
    case Approximation::kRandom:
      return below(2 * most + 1) - most;
    case Approximation::kUp:
      return most;
    case Approximation::kDown:
      return -most;
    default:
      return below(most + 1);
  }
}

template <typename T>
T approximated(Function function, T argument, T exact, int most) {
  if (!std::isfinite(exact) || exact == 0) {
    return exact;
  }
  T result = exact;
  const int error = error_in_ulp(function, bits_of(argument), most);
  for (int k = 0; k < std::abs(error); ++k) {
    result = std::nextafter(result, static_cast<T>(error < 0 ? -INFINITY : INFINITY));
  }
  return result;
}

float flushed(float x) { return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x; }

}  // namespace

namespace cuda_emulation {

void set_approximation(Approximation given, uint64_t given_seed) {
  approximation = given;
  seed = given_seed;
}

float ex2_approx_ftz(float x) {
  x = flushed(x);
  return x == 0 ? 1 : flushed(approximated(Function::kEx2, x, std::exp2(x), 2));
}

float rcp_approx_ftz(float x) {
  x = flushed(x);
  return flushed(approximated(Function::kRcp, x, 1 / x, 1));
}

}  // namespace cuda_emulation

// The kernels' calls of these functions come here: the linker is told to --wrap them.
extern "C" {
float __real_expf(float x);
float __real_logf(float x);
double __real_exp(double x);
double __real_log(double x);

float __wrap_expf(float x) {
  return x == 0 ? 1 : approximated(Function::kExpf, x, __real_expf(x), 2);
}
float __wrap_logf(float x) { return approximated(Function::kLogf, x, __real_logf(x), 1); }
double __wrap_exp(double x) {
  return x == 0 ? 1 : approximated(Function::kExp, x, __real_exp(x), 1);
}
double __wrap_log(double x) { return approximated(Function::kLog, x, __real_log(x), 1); }
}
