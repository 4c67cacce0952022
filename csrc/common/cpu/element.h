// Element types of the CPU kernels and their conversion to and from the accumulation type, written
// so that the compiler vectorizes the loops around them. For *kernels.cpp files only: the anonymous
// namespace keeps each instruction set's copy to itself.
#pragma once

#include <cstdint>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "common/accumulate.h"

namespace fcn_ext {
namespace {

struct HalfBits {
  uint16_t bits;
};
struct BFloat16Bits {
  uint16_t bits;
};

inline uint32_t float_bits(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof(bits));
  return bits;
}

inline float bits_float(uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof(value));
  return value;
}

inline float load(const float& value) { return value; }
inline double load(const double& value) { return value; }
inline float load(const BFloat16Bits& value) {
  return bits_float(static_cast<uint32_t>(value.bits) << 16);
}
// Multiplying by 2^112 rebiases the exponent and normalizes subnormals in one step.
inline float load(const HalfBits& value) {
  const uint32_t magnitude = static_cast<uint32_t>(value.bits & 0x7fff) << 13;
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000) << 16;
  const uint32_t special = magnitude >= 0x0f800000u ? 0x7f800000u : 0u;
  return bits_float(float_bits(bits_float(magnitude) * 0x1p112f) | special | sign);
}

inline void store(float& out, float value) { out = value; }
inline void store(double& out, double value) { out = value; }
// Round to nearest even; NaN stays NaN.
inline void store(BFloat16Bits& out, float value) {
  const uint32_t bits = float_bits(value);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  out.bits = static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
}
// Round to nearest even. Adding a power of two chosen from the exponent leaves the rounded
// mantissa in the low bits, for normal and subnormal halves alike.
inline void store(HalfBits& out, float value) {
  const uint32_t bits = float_bits(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  const uint32_t exponent = magnitude < 0x38800000u ? 0x38800000u : magnitude & 0x7f800000u;
  const float anchor = bits_float(exponent + 0x06800000u);
  const uint32_t mantissa = float_bits(bits_float(magnitude) + anchor) - float_bits(anchor);
  const uint32_t rebased = ((exponent - 0x38800000u) >> 13) + mantissa;
  const uint32_t finite = magnitude >= 0x47800000u ? 0x7c00u : rebased;
  out.bits = static_cast<uint16_t>(sign | (magnitude > 0x7f800000u ? 0x7e00u : finite));
}

// Calls body(data) with a pointer to the element type numbered `element` (element_index()), which
// must be one that is summed in accumulate_t.
template <typename accumulate_t, typename Body>
inline auto with_elements(const void* data, int element, const Body& body) {
  if constexpr (sizeof(accumulate_t) == sizeof(double)) {
    return body(static_cast<const double*>(data));
  } else {
    switch (element) {
      case 0:
        return body(static_cast<const float*>(data));
      case 2:
        return body(static_cast<const HalfBits*>(data));
      default:
        return body(static_cast<const BFloat16Bits*>(data));
    }
  }
}

// ---------------------------------------------------------------- 64 bytes of lanes at a time

template <typename accumulate_t>
struct LanesOf {
  typedef accumulate_t type __attribute__((vector_size(64)));
  static constexpr int64_t count = 64 / sizeof(accumulate_t);
};
template <typename element_t>
using Lanes = typename LanesOf<accumulate_of<element_t>>::type;
template <typename element_t>
constexpr int64_t kLanes = LanesOf<accumulate_of<element_t>>::count;

typedef uint16_t Bits16 __attribute__((vector_size(32)));
typedef uint32_t Bits32 __attribute__((vector_size(64)));

// Loads consecutive elements, from any address.
inline Lanes<float> load_lanes(const float* from) {
  Lanes<float> lanes;
  __builtin_memcpy(&lanes, from, sizeof(lanes));
  return lanes;
}
inline Lanes<double> load_lanes(const double* from) {
  Lanes<double> lanes;
  __builtin_memcpy(&lanes, from, sizeof(lanes));
  return lanes;
}
inline Lanes<float> load_lanes(const BFloat16Bits* from) {
  Bits16 bits;
  __builtin_memcpy(&bits, from, sizeof(bits));
  return (Lanes<float>)(__builtin_convertvector(bits, Bits32) << 16);
}
#if defined(__AVX512F__)
inline Lanes<float> load_lanes(const HalfBits* from) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}
#else
// Too long to inline: one copy is compiled.
[[gnu::noinline, maybe_unused]] Lanes<float> load_lanes(const HalfBits* from) {
  Lanes<float> lanes;
  for (int64_t i = 0; i < kLanes<float>; ++i) {
    lanes[i] = load(from[i]);
  }
  return lanes;
}
#endif

// { from[0] repeated, from[1] repeated, ... }; repeat divides the number of lanes. May read a full
// register from `from`.
template <int repeat>
inline Lanes<float> repeat_lanes(const float* from) {
#if defined(__AVX512F__)
  alignas(64) static constexpr int32_t kIndex[16] = {
      0,           1 / repeat,  2 / repeat,  3 / repeat, 4 / repeat,  5 / repeat,
      6 / repeat,  7 / repeat,  8 / repeat,  9 / repeat, 10 / repeat, 11 / repeat,
      12 / repeat, 13 / repeat, 14 / repeat, 15 / repeat};
  return _mm512_permutexvar_ps(_mm512_load_si512(kIndex), _mm512_loadu_ps(from));
#else
  Lanes<float> lanes;
  for (int64_t i = 0; i < kLanes<float>; ++i) {
    lanes[i] = from[i / repeat];
  }
  return lanes;
#endif
}
template <int repeat>
inline Lanes<double> repeat_lanes(const double* from) {
  Lanes<double> lanes;
  for (int64_t i = 0; i < kLanes<double>; ++i) {
    lanes[i] = from[i / repeat];
  }
  return lanes;
}

// Stores bytes. With `stream` they go past the caches, to an address aligned to their size, so that
// a result larger than the caches is not read into them before it is written. stream_fence() ends a
// series of streaming stores.
template <bool stream, typename bytes_t>
inline void put(void* to, const bytes_t& bytes) {
#if defined(__AVX512F__)
  if constexpr (stream && sizeof(bytes) == 64) {
    return _mm512_stream_si512(reinterpret_cast<__m512i*>(to), (__m512i)bytes);
  } else if constexpr (stream && sizeof(bytes) == 32) {
    return _mm256_stream_si256(reinterpret_cast<__m256i*>(to), (__m256i)bytes);
  }
#elif defined(__SSE2__)
  if constexpr (stream) {
    __m128i pieces[sizeof(bytes) / 16];
    __builtin_memcpy(pieces, &bytes, sizeof(bytes));
    for (uint64_t i = 0; i < sizeof(bytes) / 16; ++i) {
      _mm_stream_si128(reinterpret_cast<__m128i*>(to) + i, pieces[i]);
    }
    return;
  }
#endif
  __builtin_memcpy(to, &bytes, sizeof(bytes));
}

// Rounds lanes to the element type and stores them.
template <bool stream>
inline void store_lanes(float* to, const Lanes<float>& lanes) {
  put<stream>(to, lanes);
}
template <bool stream>
inline void store_lanes(double* to, const Lanes<double>& lanes) {
  put<stream>(to, lanes);
}
// NaN needs no care here: it comes from bfloat16 values or from arithmetic on them, so its low bits
// are zero and rounding carries nothing into its sign.
inline Bits32 rounded_bits(const Lanes<float>& lanes) {
  const Bits32 bits = (Bits32)lanes;
  return bits + 0x7fffu + ((bits >> 16) & 1u);
}
template <bool stream>
inline void store_lanes(BFloat16Bits* to, const Lanes<float>& lanes) {
  const Bits32 bits = rounded_bits(lanes) >> 16;
#if defined(__AVX512F__)
  put<stream>(to, _mm512_cvtepi32_epi16((__m512i)bits));
#else
  put<stream>(to, __builtin_convertvector(bits, Bits16));
#endif
}
// One copy, like the load of halves.
[[gnu::noinline, maybe_unused]] void store_halves(HalfBits* to, const Lanes<float>& lanes) {
  for (int64_t i = 0; i < kLanes<float>; ++i) {
    store(to[i], lanes[i]);
  }
}
template <bool stream>
inline void store_lanes(HalfBits* to, const Lanes<float>& lanes) {
#if defined(__AVX512F__)
  put<stream>(to, _mm512_cvtps_ph((__m512)lanes, _MM_FROUND_TO_NEAREST_INT));
#elif defined(__F16C__)
  __m256 halves[2];
  __builtin_memcpy(halves, &lanes, sizeof(lanes));
  const __m128i bits[2] = {_mm256_cvtps_ph(halves[0], _MM_FROUND_TO_NEAREST_INT),
                           _mm256_cvtps_ph(halves[1], _MM_FROUND_TO_NEAREST_INT)};
  Bits16 joined;
  __builtin_memcpy(&joined, bits, sizeof(joined));
  put<stream>(to, joined);
#else
  store_halves(to, lanes);
#endif
}

// Loads the last `count` elements of a row; the other lanes are zero.
template <typename element_t>
inline Lanes<element_t> load_first(const element_t* from, int64_t count) {
  element_t some[kLanes<element_t>] = {};
  __builtin_memcpy(some, from, count * sizeof(element_t));
  return load_lanes(some);
}
template <typename element_t>
inline void store_first(element_t* to, const Lanes<element_t>& lanes, int64_t count) {
  element_t some[kLanes<element_t>];
  store_lanes<false>(some, lanes);
  __builtin_memcpy(to, some, count * sizeof(element_t));
}
#if defined(__AVX512F__)
inline Lanes<float> load_first(const float* from, int64_t count) {
  return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), from);
}
inline void store_first(float* to, const Lanes<float>& lanes, int64_t count) {
  _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << count) - 1), (__m512)lanes);
}
#endif

// Stores two registers of lanes side by side; with `stream`, `to` is aligned to a cache line.
template <bool stream, typename element_t>
inline void store_lanes(element_t* to, const Lanes<element_t>& first,
                        const Lanes<element_t>& second) {
  store_lanes<stream>(to, first);
  store_lanes<stream>(to + kLanes<element_t>, second);
}
#if defined(__AVX512BW__)
template <bool stream>
inline void store_lanes(BFloat16Bits* to, const Lanes<float>& first, const Lanes<float>& second) {
  alignas(64) static constexpr uint16_t kUpperHalves[32] = {
      1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
      33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
  put<stream>(
      to, _mm512_permutex2var_epi16((__m512i)rounded_bits(first), _mm512_load_si512(kUpperHalves),
                                    (__m512i)rounded_bits(second)));
}
#endif

inline void stream_fence() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

}  // namespace
}  // namespace fcn_ext
