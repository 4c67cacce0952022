// Element types of the CPU kernels and their conversion to and from the accumulation type, written
// so that the compiler vectorises the loops around them. For *_kernels_cpu.cpp files only: the
// anonymous namespace keeps each instruction set's copy to itself.
#pragma once

#include <cstdint>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace fcn_ext {
namespace {

struct HalfBits {
  uint16_t bits;
};
struct BFloat16Bits {
  uint16_t bits;
};

template <typename element_t>
struct Accumulate {
  using type = float;
};
template <>
struct Accumulate<double> {
  using type = double;
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
// Multiplying by 2^112 rebiases the exponent and normalises subnormals in one step.
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

// out[0, n) = values[0, n), rounded to the element type.
template <typename element_t, typename accumulate_t>
inline void store_run(element_t* __restrict out, const accumulate_t* __restrict values, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    store(out[i], values[i]);
  }
}

#if defined(__AVX512F__)
inline void store_run(HalfBits* __restrict out, const float* __restrict values, int64_t n) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i),
                        _mm512_cvtps_ph(_mm512_loadu_ps(values + i), _MM_FROUND_TO_NEAREST_INT));
  }
  for (; i < n; ++i) {
    store(out[i], values[i]);
  }
}
#elif defined(__F16C__)
inline void store_run(HalfBits* __restrict out, const float* __restrict values, int64_t n) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(values + i), _MM_FROUND_TO_NEAREST_INT));
  }
  for (; i < n; ++i) {
    store(out[i], values[i]);
  }
}
#endif

// Copies a multiple of 64 bytes past the caches: a result larger than they are is written without
// first being read into them. Both pointers are aligned to 64 bytes; stream_fence() ends a series.
inline void stream_lines(void* __restrict out, const void* __restrict lines, int64_t bytes) {
  auto* to = static_cast<char*>(out);
  auto* from = static_cast<const char*>(lines);
  for (int64_t i = 0; i < bytes; i += 64) {
#if defined(__AVX512F__)
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to + i),
                        _mm512_load_si512(reinterpret_cast<const __m512i*>(from + i)));
#elif defined(__SSE2__)
    for (int64_t k = i; k < i + 64; k += 16) {
      _mm_stream_si128(reinterpret_cast<__m128i*>(to + k),
                       _mm_load_si128(reinterpret_cast<const __m128i*>(from + k)));
    }
#else
    __builtin_memcpy(to + i, from + i, 64);
#endif
  }
}

inline void stream_fence() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

}  // namespace
}  // namespace fcn_ext
