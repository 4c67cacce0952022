// Registers of the instruction set's own width, on which comparisons and selections are fast, and
// elementary functions of them: no library calls, and the same bits in every lane.
// For *kernels.cpp files only (common/cpu/capability.h says why the anonymous namespace).
#pragma once

#include "common/cpu/element.h"

namespace fcn_ext {
namespace {

#if defined(__AVX512F__)
constexpr int kRegisterBytes = 64;
#elif defined(__AVX2__)
constexpr int kRegisterBytes = 32;
#else
constexpr int kRegisterBytes = 16;
#endif

template <typename accumulate_t>
struct RegisterOf {
  typedef accumulate_t type __attribute__((vector_size(kRegisterBytes)));
};
template <typename accumulate_t>
using Register = typename RegisterOf<accumulate_t>::type;
template <typename accumulate_t>
constexpr int64_t kWidth = kRegisterBytes / sizeof(accumulate_t);
// The lanes of the widest register of any instruction set: 16 floats.
constexpr int64_t kWidest = 16;

typedef int32_t Int32Register __attribute__((vector_size(kRegisterBytes)));
typedef int64_t Int64Register __attribute__((vector_size(kRegisterBytes)));
typedef uint32_t Bits32Register __attribute__((vector_size(kRegisterBytes)));
typedef uint64_t Bits64Register __attribute__((vector_size(kRegisterBytes)));

template <typename accumulate_t>
inline Register<accumulate_t> load_register(const accumulate_t* from) {
  Register<accumulate_t> lanes;
  __builtin_memcpy(&lanes, from, sizeof(lanes));
  return lanes;
}
template <typename accumulate_t>
inline void store_register(accumulate_t* to, const Register<accumulate_t>& lanes) {
  __builtin_memcpy(to, &lanes, sizeof(lanes));
}

// Integers as wide as the lanes; the unsigned `bits` wrap around.
template <typename accumulate_t>
struct IntegersOf {
  using type = Int32Register;
  using bits = Bits32Register;
  using one = int32_t;
  static constexpr int mantissa_bits = 23, bias = 127;
};
template <>
struct IntegersOf<double> {
  using type = Int64Register;
  using bits = Bits64Register;
  using one = int64_t;
  static constexpr int mantissa_bits = 52, bias = 1023;
};
template <typename accumulate_t>
using Integers = typename IntegersOf<accumulate_t>::type;

template <typename accumulate_t>
inline Register<accumulate_t> all_lanes(accumulate_t value) {
  return Register<accumulate_t>{} + value;
}

// Loads a register's worth of small integers.
template <typename accumulate_t>
inline Integers<accumulate_t> load_integers(const int8_t* from) {
#if defined(__AVX512F__)
  if constexpr (sizeof(accumulate_t) == 4) {
    __m128i bytes;
    __builtin_memcpy(&bytes, from, 16);
    return (Integers<accumulate_t>)_mm512_cvtepi8_epi32(bytes);
  }
#elif defined(__AVX2__)
  if constexpr (sizeof(accumulate_t) == 4) {
    return (Integers<accumulate_t>)_mm256_cvtepi8_epi32(
        _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
  }
#endif
  Integers<accumulate_t> lanes;
  for (int64_t i = 0; i < kWidth<accumulate_t>; ++i) {
    lanes[i] = from[i];
  }
  return lanes;
}

// { a[0] + a[1], a[2] + a[3], ..., b[0] + b[1], ... }
template <typename accumulate_t>
inline Register<accumulate_t> pair_sums(const Register<accumulate_t>& a,
                                        const Register<accumulate_t>& b) {
#if defined(__AVX2__) && !defined(__AVX512F__)
  if constexpr (sizeof(accumulate_t) == 4) {
    const __m256 sums = _mm256_hadd_ps((__m256)a, (__m256)b);  // within each half of a register
    return (Register<accumulate_t>)_mm256_permute4x64_pd((__m256d)sums, 0xd8);
  }
#endif
  Integers<accumulate_t> even = {};
  for (int64_t i = 0; i < kWidth<accumulate_t>; ++i) {
    even[i] = static_cast<typename IntegersOf<accumulate_t>::one>(2 * i);
  }
  return __builtin_shuffle(a, b, even) + __builtin_shuffle(a, b, even + 1);
}

// The smaller or larger of two numbers; if one is NaN, the second.
inline Register<float> smaller(const Register<float>& a, const Register<float>& b) {
#if defined(__AVX512F__)
  return _mm512_min_ps(a, b);
#else
  return a < b ? a : b;
#endif
}
inline Register<float> larger(const Register<float>& a, const Register<float>& b) {
#if defined(__AVX512F__)
  return _mm512_max_ps(a, b);
#else
  return a > b ? a : b;
#endif
}
inline Register<double> smaller(const Register<double>& a, const Register<double>& b) {
  return a < b ? a : b;
}
inline Register<double> larger(const Register<double>& a, const Register<double>& b) {
  return a > b ? a : b;
}

// Whether a comparison holds in any lane.
template <typename integers_t>
inline bool any_lane(const integers_t& holds) {
#if defined(__AVX512DQ__)
  if constexpr (sizeof(holds[0]) == 4) {
    return _mm512_movepi32_mask((__m512i)holds) != 0;
  } else {
    return _mm512_movepi64_mask((__m512i)holds) != 0;
  }
#else
  uint64_t words[kRegisterBytes / 8], joined = 0;
  __builtin_memcpy(words, &holds, sizeof(words));
  for (uint64_t word : words) {
    joined |= word;
  }
  return joined != 0;
#endif
}

// { from[at[0] - base], ... }, zero where at < 0.
inline Register<float> gather(const float* from, const int32_t* at, int32_t base) {
#if defined(__AVX512F__)
  const __m512i index = _mm512_loadu_si512(at);
  const __mmask16 present = _mm512_cmpge_epi32_mask(index, _mm512_setzero_si512());
  return _mm512_mask_i32gather_ps(_mm512_setzero_ps(), present,
                                  _mm512_sub_epi32(index, _mm512_set1_epi32(base)), from, 4);
#else
  Register<float> lanes;
  for (int64_t i = 0; i < kWidth<float>; ++i) {
    lanes[i] = at[i] < 0 ? 0.0f : from[at[i] - base];
  }
  return lanes;
#endif
}
inline Register<double> gather(const double* from, const int32_t* at, int32_t base) {
  Register<double> lanes;
  for (int64_t i = 0; i < kWidth<double>; ++i) {
    lanes[i] = at[i] < 0 ? 0.0 : from[at[i] - base];
  }
  return lanes;
}

// Lane i: from[at[i] - base]. All indices lie within a register of `base`.
inline Register<float> pick(const float* from, const int32_t* at, int32_t base) {
#if defined(__AVX512F__)
  const __m512i index = _mm512_sub_epi32(_mm512_loadu_si512(at), _mm512_set1_epi32(base));
  return _mm512_permutexvar_ps(index, _mm512_loadu_ps(from));
#elif defined(__AVX2__)
  const __m256i indices = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
  const __m256i index = _mm256_sub_epi32(indices, _mm256_set1_epi32(base));
  return (Register<float>)_mm256_permutevar8x32_ps(_mm256_loadu_ps(from), index);
#else
  Register<float> lanes;
  for (int64_t i = 0; i < kWidth<float>; ++i) {
    lanes[i] = from[at[i] - base];
  }
  return lanes;
#endif
}
inline Register<double> pick(const double* from, const int32_t* at, int32_t base) {
  Register<double> lanes;
  for (int64_t i = 0; i < kWidth<double>; ++i) {
    lanes[i] = from[at[i] - base];
  }
  return lanes;
}

// ln(2)^n / n!, the series of 2^x.
constexpr double kExp2Terms[] = {1.0,
                                 0.6931471805599453,
                                 0.2402265069591007,
                                 0.05550410866482158,
                                 0.009618129107628477,
                                 0.0013333558146428443,
                                 0.0001540353039338161,
                                 1.5252733804059841e-05,
                                 1.321548679014431e-06,
                                 1.0178086009239699e-07,
                                 7.054911620801123e-09,
                                 4.44553827187081e-10,
                                 2.5678435993488202e-11,
                                 1.3691488853904128e-12};

// 2^x within 1.5 ulp for x <= 1000 (float: 100). Zero for NaN and where the result would be
// subnormal.
template <typename accumulate_t>
inline Register<accumulate_t> exp2_lanes(const Register<accumulate_t>& x) {
  using lanes_t = Register<accumulate_t>;
  constexpr bool kDouble = sizeof(accumulate_t) == 8;
  constexpr int kDegree = kDouble ? 13 : 7;
  constexpr accumulate_t kLeast = kDouble ? -1022 : -126;
  // Adding 1.5 * 2^mantissa_bits leaves the nearest integer in the low bits.
  constexpr accumulate_t kRound = kDouble ? 0x1.8p52 : 0x1.8p23;
  const lanes_t bounded = larger(x, all_lanes<accumulate_t>(kLeast - 1));
  const lanes_t shifted = bounded + kRound;
  const lanes_t rest = bounded - (shifted - kRound);
  lanes_t series = all_lanes<accumulate_t>(static_cast<accumulate_t>(kExp2Terms[kDegree]));
  for (int n = kDegree - 1; n >= 0; --n) {
    series = series * rest + static_cast<accumulate_t>(kExp2Terms[n]);
  }
  using bits_t = typename IntegersOf<accumulate_t>::bits;
  const bits_t exponent = (bits_t)shifted << IntegersOf<accumulate_t>::mantissa_bits;
  const lanes_t scaled = (lanes_t)((bits_t)series + exponent);
  return x < kLeast ? lanes_t{} : scaled;
}

// log2(x) of positive normal numbers: x = 2^e m with m in [sqrt(1/2), sqrt(2)) and
// log2(m) = 2 / ln 2 * artanh((m - 1) / (m + 1)).
template <typename accumulate_t>
inline Register<accumulate_t> log2_lanes(const Register<accumulate_t>& x) {
  using lanes_t = Register<accumulate_t>;
  using integers_t = Integers<accumulate_t>;
  constexpr bool kDouble = sizeof(accumulate_t) == 8;
  constexpr int kBits = IntegersOf<accumulate_t>::mantissa_bits;
  constexpr int kTerms = kDouble ? 12 : 5;
  constexpr double kTwoOverLn2 = 2.8853900817779268;
  const integers_t bits = (integers_t)x;
  // Subtracting the bits of sqrt(1/2) makes the exponent count from there.
  constexpr auto kRootHalf = kDouble ? int64_t{0x3fe6a09e667f3bcd} : int64_t{0x3f3504f3};
  using integer_t = typename IntegersOf<accumulate_t>::one;
  const integers_t exponent = (bits - static_cast<integer_t>(kRootHalf)) >> kBits;
  const lanes_t m = (lanes_t)(bits - (exponent << kBits));
  const lanes_t s = (m - 1) / (m + 1);
  const lanes_t square = s * s;
  lanes_t series =
      all_lanes<accumulate_t>(static_cast<accumulate_t>(kTwoOverLn2 / (2 * kTerms - 1)));
  for (int n = kTerms - 2; n >= 0; --n) {
    series = series * square + static_cast<accumulate_t>(kTwoOverLn2 / (2 * n + 1));
  }
  return series * s + __builtin_convertvector(exponent, lanes_t);
}

// 1 / x for a positive normal x.
inline Register<float> reciprocal(const Register<float>& x) {
#if defined(__AVX512F__)
  const Register<float> guess = _mm512_maskz_rcp14_ps(0xffff, x);
  return guess * (2.0f - x * guess);
#else
  return 1.0f / x;
#endif
}
inline Register<double> reciprocal(const Register<double>& x) { return 1.0 / x; }

// Sums in double by halving, which keeps chains of dependent additions short.
inline double sum_of_doubles(const Register<double>& lanes) {
  double sums[kWidth<double>];
  __builtin_memcpy(sums, &lanes, sizeof(lanes));
  for (int64_t half = kWidth<double> / 2; half > 0; half /= 2) {
    for (int64_t i = 0; i < half; ++i) {
      sums[i] += sums[i + half];
    }
  }
  return sums[0];
}

template <typename accumulate_t>
inline double sum_of(const Register<accumulate_t>& lanes) {
  if constexpr (sizeof(accumulate_t) == sizeof(double)) {
    return sum_of_doubles(lanes);
  } else {
    typedef float half_t __attribute__((vector_size(kRegisterBytes / 2)));
    half_t halves[2];
    __builtin_memcpy(halves, &lanes, sizeof(lanes));
    return sum_of_doubles(__builtin_convertvector(halves[0], Register<double>) +
                          __builtin_convertvector(halves[1], Register<double>));
  }
}

}  // namespace
}  // namespace fcn_ext
