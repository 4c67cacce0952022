// The arithmetic of a cell: the exponentials of a bilinear function without an exponential a pixel.
//
// Inside a cell the exponent of a class is start + across i + down j + twist i j at the pixel (i,
// j) of a thread's part of it, so that its powers of two are products: along a row a geometric
// progression, whose start and ratio are geometric progressions down the rows. Four ex2 make a
// cell; the sums of the backward over u_ij 2^exponent, and over it times i, j and i j, are Horner
// schemes with their derivatives, whose coefficients u are the same for all classes.
#pragma once

#include "common/logarithms.h"
#include "softmax/cuda/functions.cuh"

namespace fcn_ext {
namespace softmax {

// Progressions must not begin below what a float holds and grow: beyond this range between the
// largest score of a node and another, in nats, pixels are computed one by one.
constexpr float kRange = 40;
// Scores that far below the largest, in nats, do not matter beside kSmallestSum.
constexpr float kTooFar = -60;
// Sums of powers below it are computed again, with the pixel's own maximum.
constexpr float kSmallestSum = 9.0949470e-13f;  // 2^-40
constexpr float kNatsToBits = static_cast<float>(kLog2E);

// A thread's part of a cell: where its first pixel lies between the nodes.
template <typename Tile>
struct Part {
  int across, down;  // pixels from the cell's first one

  __device__ __forceinline__ float x() const {
    return (static_cast<float>(across) + 0.5f) * (1.0f / Tile::kStride);
  }
  __device__ __forceinline__ float y() const {
    return (static_cast<float>(down) + 0.5f) * (1.0f / Tile::kStride);
  }
};

// Keeps the compiler from computing what follows from a value ahead of a loop, in more registers
// than there are.
__device__ __forceinline__ int opaque(int value) {
#if !defined(FCN_EXT_CUDA_EMULATION)
  asm volatile("" : "+r"(value));
#endif
  return value;
}

// A class's scores at the nodes around a cell, less the largest of each node.
struct Corners {
  float top_left, top_right, bottom_left, bottom_right;

  __device__ __forceinline__ bool is_nan() const {
    const float sum = top_left + top_right + bottom_left + bottom_right;
    return sum != sum;
  }
  __device__ __forceinline__ float lowest() const {
    return fminf(fminf(top_left, top_right), fminf(bottom_left, bottom_right));
  }
  __device__ __forceinline__ float highest() const {
    return fmaxf(fmaxf(top_left, top_right), fmaxf(bottom_left, bottom_right));
  }
};

struct Exponents {
  float start, across, down, twist;
};

template <typename Tile>
__device__ __forceinline__ Exponents exponents(const Corners& corners, const Part<Tile>& part) {
  constexpr float kStep = kNatsToBits / Tile::kStride;
  const float top = corners.top_right - corners.top_left;
  const float bottom = corners.bottom_right - corners.bottom_left;
  const float left = corners.bottom_left - corners.top_left;
  const float twist = bottom - top;
  const float across = fmaf(twist, part.y(), top), down = fmaf(twist, part.x(), left);
  const float start = fmaf(part.y(), down, fmaf(part.x(), top, corners.top_left));
  return {start * kNatsToBits, across * kStep, down * kStep, twist * (kStep / Tile::kStride)};
}

// sum[pixel] += 2^exponent.
template <typename Tile>
__device__ __forceinline__ void add_powers(const Exponents& exponents,
                                           float (&sum)[Tile::kPixels]) {
  constexpr int kSide = Tile::kSide;
  float start = exp2_fast(exponents.start), ratio = exp2_fast(exponents.across);
  const float down = exp2_fast(exponents.down), twist = exp2_fast(exponents.twist);
#pragma unroll
  for (int j = 0; j < kSide; ++j) {
    const float square = ratio * ratio;
    float power = start;
#pragma unroll
    for (int i = 0; i < kSide; i += 2) {
      sum[j * kSide + i] += power;
      sum[j * kSide + i + 1] = fmaf(power, ratio, sum[j * kSide + i + 1]);
      power *= square;
    }
    start *= down;
    ratio *= twist;
  }
}

// The sums over a thread's pixels of u 2^exponent, shared out to the corners of its cell by the
// pixels' weights: top left, top right, bottom left, bottom right.
template <typename Tile>
__device__ __forceinline__ void corner_sums(const Exponents& exponents, const Part<Tile>& part,
                                            const float (&u)[Tile::kPixels], float (&corner)[4]) {
  constexpr int kSide = Tile::kSide;
  constexpr float kStep = 1.0f / Tile::kStride;
  float ratio = exp2_fast(fmaf(static_cast<float>(kSide - 1), exponents.twist, exponents.across));
  const float untwist = exp2_fast(-exponents.twist), down = exp2_fast(exponents.down);
  // Sums of u power, and of it times i + 1, j + 1, and both.
  float sum = 0, sum_x = 0, sum_y = 0, sum_xy = 0;
#pragma unroll
  for (int j = kSide - 1; j >= 0; --j) {
    float row = u[j * kSide + kSide - 1], row_x = row;
#pragma unroll
    for (int i = kSide - 2; i >= 0; --i) {
      row = fmaf(row, ratio, u[j * kSide + i]);
      row_x = fmaf(row_x, ratio, row);
    }
    if (j == kSide - 1) {
      sum = sum_y = row;
      sum_x = sum_xy = row_x;
    } else {
      sum = fmaf(sum, down, row);
      sum_y = fmaf(sum_y, down, sum);
      sum_x = fmaf(sum_x, down, row_x);
      sum_xy = fmaf(sum_xy, down, sum_x);
    }
    ratio *= untwist;
  }
  const float start = exp2_fast(exponents.start);
  const float before_x = part.x() - kStep, before_y = part.y() - kStep;
  sum *= start;
  const float scale = start * kStep;
  const float right = fmaf(before_x, sum, scale * sum_x);
  const float sum_down = scale * sum_y;
  const float bottom = fmaf(before_y, sum, sum_down);
  const float right_down = fmaf(before_x, sum_down, scale * kStep * sum_xy);
  corner[3] = fmaf(before_y, right, right_down);
  corner[1] = right - corner[3];
  corner[2] = bottom - corner[3];
  corner[0] = sum - right - corner[2];
}

// The same, pixel by pixel: for scores of any range. Calls body(pixel, power, x, y) with the
// pixel's weights of the right and the lower nodes.
template <typename Tile, typename Body>
__device__ __forceinline__ void each_power(const Corners& corners, const Part<Tile>& given,
                                           const Body& body) {
  const Part<Tile> part{opaque(given.across), opaque(given.down)};
#pragma unroll
  for (int j = 0; j < Tile::kSide; ++j) {
    const float y = part.y() + static_cast<float>(j) * (1.0f / Tile::kStride);
    const float left = (1 - y) * corners.top_left + y * corners.bottom_left;
    const float right = (1 - y) * corners.top_right + y * corners.bottom_right;
#pragma unroll
    for (int i = 0; i < Tile::kSide; ++i) {
      const float x = part.x() + static_cast<float>(i) * (1.0f / Tile::kStride);
      body(j * Tile::kSide + i, exp2_fast(kNatsToBits * ((1 - x) * left + x * right)), x, y);
    }
  }
}

// What a class adds to a cell where scores may be far apart, infinite or NaN.
enum class Reach { kNear, kNothing, kFar, kNan };

__device__ __forceinline__ Reach reach(const Corners& corners) {
  if (corners.is_nan()) {
    return Reach::kNan;
  }
  const float lowest = corners.lowest();
  if (lowest >= -kRange) {
    return Reach::kNear;
  }
  // One corner of minus infinity makes that of all pixels of the cell.
  return lowest == -INFINITY || corners.highest() < kTooFar ? Reach::kNothing : Reach::kFar;
}

template <typename Tile>
__device__ __forceinline__ void add_powers_of_any_range(const Corners& corners,
                                                        const Part<Tile>& part,
                                                        float (&sum)[Tile::kPixels]) {
  switch (reach(corners)) {
    case Reach::kNear:
      return add_powers<Tile>(exponents(corners, part), sum);
    case Reach::kNothing:
      return;
    case Reach::kFar:
      return each_power(corners, part,
                        [&](int pixel, float power, float, float) { sum[pixel] += power; });
    case Reach::kNan:
#pragma unroll
      for (float& value : sum) {
        value = not_a_number<float>();
      }
  }
}

template <typename Tile>
__device__ __forceinline__ void corner_sums_of_any_range(const Corners& corners,
                                                         const Part<Tile>& part,
                                                         const float (&u)[Tile::kPixels],
                                                         float (&corner)[4]) {
  const Reach class_reach = reach(corners);
  if (class_reach == Reach::kNear) {
    return corner_sums(exponents(corners, part), part, u, corner);
  }
#pragma unroll
  for (float& value : corner) {
    value = 0;
  }
  if (class_reach == Reach::kFar) {
    each_power(corners, part, [&](int pixel, float power, float x, float y) {
      const float value = u[pixel] * power, right = x * value;
      corner[0] += (1 - y) * (value - right);
      corner[1] += (1 - y) * right;
      corner[2] += y * (value - right);
      corner[3] += y * right;
    });
  } else if (class_reach == Reach::kNan) {
    // u is zero where a pixel is ignored and NaN elsewhere.
    float sum = 0;
#pragma unroll
    for (const float value : u) {
      sum += value;
    }
#pragma unroll
    for (float& value : corner) {
      value = sum;
    }
  }
}

// Adds up the corner sums of the lanes of a cell. Afterwards the first four of them hold, in
// corner[0], that of the corner which is returned. All lanes of the warp come here.
template <typename Tile>
__device__ __forceinline__ int combine_lanes(int lane, float (&corner)[4]) {
  const bool lower = lane % 2 != 0, later = lane / 2 % 2 != 0;
  const float first = __shfl_xor_sync(kFullMask, lower ? corner[0] : corner[2], 1);
  const float second = __shfl_xor_sync(kFullMask, lower ? corner[1] : corner[3], 1);
  const float left = (lower ? corner[2] : corner[0]) + first;
  const float right = (lower ? corner[3] : corner[1]) + second;
  corner[0] = (later ? right : left) + __shfl_xor_sync(kFullMask, later ? left : right, 2);
#pragma unroll
  for (int other = 4; other < Tile::kLanes; other *= 2) {
    corner[0] += __shfl_xor_sync(kFullMask, corner[0], other);
  }
  return 2 * (lane % 2) + lane / 2 % 2;
}

}  // namespace softmax
}  // namespace fcn_ext
