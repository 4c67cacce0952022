// The arithmetic of a cell: exponentials of a bilinear function without an exponential per pixel.
//
// A thread always computes kSide x kSide pixels for its part of a cell. Those that the cell does
// not have lie beyond the next node; their values are finite and get multiplied by zero.
//
// An ex2 is off by up to two ulp; the ratio of a row by that times the rows since a ratio had an
// ex2 of its own, and a power in the row by the error of its ratio times the columns. The middle
// row of eight starts afresh.
//
// Inside a cell, the exponent of a class at pixel (i, j) of a thread's part is start + across i +
// down j + twist i j, so its powers of two are products: each row is a geometric progression, whose
// start and ratio are geometric progressions down the rows. A cell takes four ex2, five with eight
// rows. The sums of the backward over u_ij 2^exponent, and over that times i, j and i j, are Horner
// schemes with their derivatives, whose coefficients u are the same for all classes.
#pragma once

#include "common/logarithms.h"
#include "softmax/cuda/functions.cuh"
#include "softmax/cuda/tiles.cuh"

namespace fcn_ext {
namespace softmax {

// A progression must not start below what a float holds and then grow, and its ratio must not
// overflow in pixels that a cell does not have. So where a score is further below the largest of
// its node than this, in nats, pixels are computed one by one. A ratio is at most 2^(3 range / ln 2
// / d) with d pixels from node to node: at least one in the smallest tile, two in the others.
template <typename Tile>
constexpr float kRange = Tile::kSide == 2 ? 24 : 40;
// Scores this far below the largest, in nats, do not matter beside kSmallestSum.
constexpr float kTooFar = -60;
// Sums of powers below this are computed again, with the pixel's own maximum.
constexpr float kSmallestSum = 9.0949470e-13f;  // 2^-40
constexpr float kNatsToBits = static_cast<float>(kLog2E);

// A thread's part of a cell. A step of x_step and y_step leads from one pixel to the next, between
// nodes at 0 and 1; the first pixel is i and j steps from the left and the upper node. Beyond a
// clamped border, whose two nodes are equal, all pixels lie on the inner one.
struct Part {
  float i, j;
  float x_step, y_step;

  __device__ __forceinline__ float x() const { return i * x_step; }
  __device__ __forceinline__ float y() const { return j * y_step; }
};
// The step beyond an upper or left clamped border, where the inner node is the second: so small
// that a cell's steps add nothing to 1.
constexpr float kBorderStep = 3.7252903e-9f;  // 2^-28

// A class's scores at the nodes around a cell, minus the largest score of each node.
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

__device__ __forceinline__ Exponents exponents(const Corners& corners, const Part& part,
                                               const PixelSteps& steps) {
  const float top = corners.top_right - corners.top_left;
  const float bottom = corners.bottom_right - corners.bottom_left;
  const float left = corners.bottom_left - corners.top_left;
  // Changes from one pixel to the next, in bits.
  const float first_row = top * steps.x_bits, first_column = left * steps.y_bits;
  const float twist = (bottom - top) * steps.xy_bits;
  const float across = fmaf(twist, part.j, first_row), down = fmaf(twist, part.i, first_column);
  const float start = fmaf(part.j, down, fmaf(part.i, first_row, corners.top_left * kNatsToBits));
  return {start, across, down, twist};
}

// sum[pixel] += 2^exponent.
template <typename Tile>
__device__ __forceinline__ void add_powers(const Exponents& exponents,
                                           float (&sum)[Tile::kPixels]) {
  constexpr int kSide = Tile::kSide;
  float start = exp2_fast(exponents.start), ratio = exp2_fast(exponents.across);
  const float down = exp2_fast(exponents.down), twist = exp2_fast(exponents.twist);
  if constexpr (kSide == 4) {
    // The third pixels of the rows are a progression, too.
    float third = start * (ratio * ratio);
    const float third_down = down * (twist * twist);
#pragma unroll
    for (int j = 0; j < kSide; ++j) {
      float* const row = sum + j * kSide;
      row[0] += start;
      row[1] = fmaf(start, ratio, row[1]);
      row[2] += third;
      row[3] = fmaf(third, ratio, row[3]);
      start *= down;
      third *= third_down;
      ratio *= twist;
    }
    return;
  }
#pragma unroll
  for (int j = 0; j < kSide; ++j) {
    if (kSide == 8 && j == kSide / 2) {
      ratio = exp2_fast(fmaf(kSide / 2, exponents.twist, exponents.across));
    }
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

// The sums over a thread's pixels of u 2^exponent, distributed by the pixels' weights to the
// corners of its cell: top left, top right, bottom left, bottom right. u[pixel]: an array, or an
// object that computes it.
template <typename Tile, typename Factors>
__device__ __forceinline__ void corner_sums(const Exponents& exponents, const Part& part,
                                            const Factors& u, float (&corner)[4]) {
  constexpr int kSide = Tile::kSide;
  float ratio = exp2_fast(fmaf(static_cast<float>(kSide - 1), exponents.twist, exponents.across));
  const float untwist = exp2_fast(-exponents.twist), down = exp2_fast(exponents.down);
  // Sums of u power, and of that times i, times j and times both. Until the last step the factors
  // are i + 1 and j + 1. If only pixels on the cell's first nodes count, the next nodes get zero.
  float sum = 0, sum_x = 0, sum_y = 0, sum_xy = 0;
#pragma unroll
  for (int j = kSide - 1; j >= 0; --j) {
    if (kSide == 8 && j == kSide / 2 - 1) {
      ratio = exp2_fast(fmaf(kSide / 2 - 1, exponents.twist, exponents.across));
    }
    float row = u[j * kSide + kSide - 1], row_x = row;
#pragma unroll
    for (int i = kSide - 2; i >= 0; --i) {
      row = fmaf(row, ratio, u[j * kSide + i]);
      row_x = i > 0 ? fmaf(row_x, ratio, row) : row_x * ratio;
    }
    if (j == kSide - 1) {
      sum = sum_y = row;
      sum_x = sum_xy = row_x;
    } else {
      sum = fmaf(sum, down, row);
      sum_y = j > 0 ? fmaf(sum_y, down, sum) : sum_y * down;
      sum_x = fmaf(sum_x, down, row_x);
      sum_xy = j > 0 ? fmaf(sum_xy, down, sum_x) : sum_xy * down;
    }
    ratio *= untwist;
  }
  // Sums weighted by the pixels' positions, in steps from the cell's first nodes.
  const float right = fmaf(part.i, sum, sum_x), bottom = fmaf(part.j, sum, sum_y);
  const float both = fmaf(part.j, right, fmaf(part.i, sum_y, sum_xy));
  const float start = exp2_fast(exponents.start);
  const float scale_x = start * part.x_step, scale_y = start * part.y_step;
  corner[3] = scale_x * part.y_step * both;
  corner[1] = fmaf(scale_x, right, -corner[3]);
  corner[2] = fmaf(scale_y, bottom, -corner[3]);
  corner[0] = fmaf(start, sum, -corner[3]) - (corner[1] + corner[2]);
}

// Adds to two sums: sum[pixel] += 2^exponent, weighted[pixel] += factor 2^exponent.
template <typename Tile>
__device__ __forceinline__ void add_powers(const Exponents& exponents, float factor,
                                           float (&sum)[Tile::kPixels],
                                           float (&weighted)[Tile::kPixels]) {
  constexpr int kSide = Tile::kSide;
  float start = exp2_fast(exponents.start), ratio = exp2_fast(exponents.across);
  const float down = exp2_fast(exponents.down), twist = exp2_fast(exponents.twist);
#pragma unroll
  for (int j = 0; j < kSide; ++j) {
    if (kSide == 8 && j == kSide / 2) {
      ratio = exp2_fast(fmaf(kSide / 2, exponents.twist, exponents.across));
    }
    float power = start;
#pragma unroll
    for (int i = 0; i < kSide; ++i) {
      sum[j * kSide + i] += power;
      weighted[j * kSide + i] = fmaf(factor, power, weighted[j * kSide + i]);
      power *= ratio;
    }
    start *= down;
    ratio *= twist;
  }
}

// a + (b - a) t, where t is in (0, 1]. At a cell's first nodes t may be zero; b is not read then.
// Equal a and b may be infinite.
__device__ __forceinline__ float between(float a, float b, float t, bool first) {
  return a == b || (first && t == 0) ? a : (1 - t) * a + t * b;
}

// Powers pixel by pixel, for scores of any range. Calls body(j, i, power, x, y), where x and y are
// the pixel's weights of the right and the lower nodes.
template <typename Tile, typename Body>
__device__ __forceinline__ void each_power(const Corners& corners, const Part& part,
                                           const Body& body) {
#pragma unroll
  for (int j = 0; j < Tile::kSide; ++j) {
    // Rows share no values: there are too few registers.
    const float first_x = opaque(part.x());
    const float y = fminf(fmaf(static_cast<float>(j), part.y_step, part.y()), 1.0f);
    const float left = between(corners.top_left, corners.bottom_left, y, j == 0);
    const float right = between(corners.top_right, corners.bottom_right, y, j == 0);
#pragma unroll
    for (int i = 0; i < Tile::kSide; ++i) {
      const float x = fminf(fmaf(static_cast<float>(i), part.x_step, first_x), 1.0f);
      body(j, i, exp2_fast(kNatsToBits * between(left, right, x, i == 0)), x, y);
    }
  }
}

// What a class adds to a cell if scores may be far apart, infinite or NaN.
enum class Reach { kNear, kNothing, kFar, kNan };

template <typename Tile>
__device__ __forceinline__ Reach reach(const Corners& corners, const Part& part) {
  const float lowest = corners.lowest();
  const bool is_nan = corners.is_nan();
  if (!is_nan && lowest >= -kRange<Tile>) {
    return Reach::kNear;
  }
  if (!is_nan && corners.highest() < kTooFar) {
    return Reach::kNothing;
  }
  if (is_nan || lowest == -INFINITY) {
    // One such corner decides for all pixels of the cell, except those on its first nodes.
    const bool on_nodes = part.i == 0 || part.j == 0;
    return on_nodes ? Reach::kFar : is_nan ? Reach::kNan : Reach::kNothing;
  }
  return Reach::kFar;
}

template <typename Tile>
__device__ __forceinline__ void add_powers_of_any_range(const Corners& corners, const Part& part,
                                                        const PixelSteps& steps,
                                                        float (&sum)[Tile::kPixels]) {
  switch (reach<Tile>(corners, part)) {
    case Reach::kNear:
      return add_powers<Tile>(exponents(corners, part, steps), sum);
    case Reach::kNothing:
      return;
    case Reach::kFar:
      return each_power<Tile>(corners, part, [&](int j, int i, float power, float, float) {
        sum[j * Tile::kSide + i] += power;
      });
    case Reach::kNan:
#pragma unroll
      for (float& value : sum) {
        value = not_a_number<float>();
      }
  }
}

template <typename Tile>
__device__ __forceinline__ void add_powers_of_any_range(const Corners& corners, const Part& part,
                                                        const PixelSteps& steps, float factor,
                                                        float (&sum)[Tile::kPixels],
                                                        float (&weighted)[Tile::kPixels]) {
  switch (reach<Tile>(corners, part)) {
    case Reach::kNear:
      return add_powers<Tile>(exponents(corners, part, steps), factor, sum, weighted);
    case Reach::kNothing:
      return;
    case Reach::kFar:
      return each_power<Tile>(corners, part, [&](int j, int i, float power, float, float) {
        sum[j * Tile::kSide + i] += power;
        weighted[j * Tile::kSide + i] += factor * power;
      });
    case Reach::kNan:
#pragma unroll
      for (float& value : sum) {
        value = not_a_number<float>();
      }
  }
}

template <typename Tile, typename Factors>
__device__ __forceinline__ void corner_sums_of_any_range(const Corners& corners, const Part& part,
                                                         const PixelSteps& steps, const Factors& u,
                                                         float (&corner)[4]) {
  const Reach class_reach = reach<Tile>(corners, part);
  if (class_reach == Reach::kNear) {
    return corner_sums<Tile>(exponents(corners, part, steps), part, u, corner);
  }
#pragma unroll
  for (float& value : corner) {
    value = 0;
  }
  if (class_reach == Reach::kFar) {
    each_power<Tile>(corners, part, [&](int j, int i, float power, float x, float y) {
      // An ignored pixel adds nothing, whatever its scores.
      const float factor = u[j * Tile::kSide + i], value = factor != 0 ? factor * power : 0;
      const float right = i == 0 && x == 0 ? 0 : x * value;
      const float bottom = j == 0 && y == 0 ? 0 : y * value;
      const float both = i == 0 && x == 0 ? 0 : x * bottom;
      corner[0] += (value - right) - (bottom - both);
      corner[1] += right - both;
      corner[2] += bottom - both;
      corner[3] += both;
    });
  } else if (class_reach == Reach::kNan) {
    // u is zero where a pixel is ignored and NaN elsewhere.
    float sum = 0;
#pragma unroll
    for (int pixel = 0; pixel < Tile::kPixels; ++pixel) {
      sum += u[pixel];
    }
#pragma unroll
    for (float& value : corner) {
      value = sum;
    }
  }
}

// Adds up the corner sums of the lanes of a cell. Afterwards corner[0] of each of the first four
// lanes is the sum of the corner whose number is returned. All lanes of the warp must call this.
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
