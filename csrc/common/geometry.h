// Index and weight arithmetic of bilinear resampling. It is written nowhere else: every CPU and
// CUDA kernel, forward and backward, gets its nodes and weights from here, and no other file reads
// step, start or denominator (tests/test_sources.py).
//
// Along one axis, output o lies on the line through the input nodes at
//
//     position(o) = (step * o + start) / denominator          (in input nodes, exact integers)
//
// It reads node = floor(position) with weight 1 - t and node + 1 with weight t, where t is the
// fractional part. Nodes outside [0, input_size) read as zero. Three maps share this form:
//
//   transposed convolution, kernel k = 2s     position(o) = (o + offset + 1/2) / s - 1
//   transposed convolution, kernel k = 2s - 1 position(o) = (o + offset + 1) / s - 1
//   F.interpolate, align_corners=False        position(o) = (o + 1/2) * in / out - 1/2, clamped
//   F.interpolate, align_corners=True         position(o) = o * (in - 1) / (out - 1)
//
// The first two are Caffe's bilinear filler, w(tap) = 1 - |tap - center| / s, read as a line.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define FCN_EXT_HOST_DEVICE __host__ __device__
#else
#define FCN_EXT_HOST_DEVICE
#endif

namespace fcn_ext {

struct BilinearAxis {
  int64_t input_size;
  int64_t output_size;
  int64_t step;         // >= 0
  int64_t start;        // may be negative
  int64_t denominator;  // > 0
  bool clamp;           // positions are clamped to [0, input_size - 1] (F.interpolate)
};

// Where an output lies: `numerator / denominator` past `node`, before `node + 1`. `node` runs from
// -1 to input_size - 1 with a zero border, and from 0 with a clamped one.
struct BilinearTap {
  int64_t node;
  int64_t numerator;
};

// b > 0.
FCN_EXT_HOST_DEVICE inline int64_t floor_divide(int64_t a, int64_t b) {
#if defined(__CUDA_ARCH__) || defined(FCN_EXT_CUDA_EMULATION)
  // A GPU divides 64-bit integers in 80 instructions, 32-bit ones in 20. The compiler's own
  // division also takes the short way, but not with negative numbers.
  const auto short_a = static_cast<int32_t>(a), short_b = static_cast<int32_t>(b);
  if (short_a == a && short_b == b) {
    const int32_t quotient = short_a / short_b;
    return quotient - (short_a < quotient * short_b ? 1 : 0);
  }
#endif
  const int64_t quotient = a / b;
  return quotient - (a % b < 0 ? 1 : 0);
}

FCN_EXT_HOST_DEVICE inline int64_t ceil_divide(int64_t a, int64_t b) {
  return -floor_divide(-a, b);
}

// The size of a transposed convolution of `input_size` nodes, before cropping.
FCN_EXT_HOST_DEVICE inline int64_t upsampled_size(int64_t input_size, int64_t stride,
                                                  int64_t kernel_size) {
  return (input_size - 1) * stride + kernel_size;
}

// The window [offset, offset + output_size) of a bilinear transposed convolution with
// kernel_size 2 * stride or 2 * stride - 1.
FCN_EXT_HOST_DEVICE inline BilinearAxis upsample_axis(int64_t input_size, int64_t output_size,
                                                      int64_t stride, int64_t kernel_size,
                                                      int64_t offset) {
  const int64_t half_steps = kernel_size == 2 * stride ? 1 : 2;
  return {input_size, output_size, 2, 2 * offset + half_steps - 2 * stride, 2 * stride, false};
}

FCN_EXT_HOST_DEVICE inline BilinearAxis interpolate_axis(int64_t input_size, int64_t output_size,
                                                         bool align_corners) {
  if (align_corners) {
    if (output_size <= 1) {
      return {input_size, output_size, 0, 0, 1, true};
    }
    return {input_size, output_size, input_size - 1, 0, output_size - 1, true};
  }
  return {input_size, output_size, 2 * input_size, input_size - output_size, 2 * output_size, true};
}

// `axis` for the outputs [offset, offset + output_size) alone, read from the nodes [node, node +
// input_size).
inline BilinearAxis cropped(const BilinearAxis& axis, int64_t offset, int64_t output_size,
                            int64_t node, int64_t input_size) {
  return {input_size,       output_size,
          axis.step,        axis.start + offset * axis.step - node * axis.denominator,
          axis.denominator, axis.clamp};
}

FCN_EXT_HOST_DEVICE inline BilinearTap bilinear_tap(const BilinearAxis& axis, int64_t output) {
  const int64_t scaled = axis.step * output + axis.start;
  const int64_t node = floor_divide(scaled, axis.denominator);
  if (axis.clamp && node < 0) {
    return {0, 0};
  }
  if (axis.clamp && node >= axis.input_size - 1) {
    return {axis.input_size - 1, 0};
  }
  return {node, scaled - node * axis.denominator};
}

// Whether no output reads a node before the first or, respectively, beyond the last one.
inline bool reads_within(const BilinearAxis& axis, bool before, bool beyond) {
  const int64_t first = axis.start, last = axis.start + (axis.output_size - 1) * axis.step;
  return (!before || first >= 0) && (!beyond || last <= (axis.input_size - 1) * axis.denominator);
}

// The tap of an output whose node is known, without a division. Ignores `clamp`.
FCN_EXT_HOST_DEVICE inline BilinearTap tap_after(const BilinearAxis& axis, int64_t node,
                                                 int64_t output) {
  return {node, axis.step * output + axis.start - node * axis.denominator};
}

// The weight of `node + 1`; that of `node` is one minus it. Every kernel computes both this way.
template <typename accumulate_t>
FCN_EXT_HOST_DEVICE inline accumulate_t upper_weight(const BilinearAxis& axis,
                                                     const BilinearTap& tap) {
  return static_cast<accumulate_t>(tap.numerator) / static_cast<accumulate_t>(axis.denominator);
}

template <typename accumulate_t>
FCN_EXT_HOST_DEVICE inline accumulate_t lower_weight(const BilinearAxis& axis,
                                                     const BilinearTap& tap) {
  return static_cast<accumulate_t>(axis.denominator - tap.numerator) /
         static_cast<accumulate_t>(axis.denominator);
}

// The first output at `node` or beyond, if the line had outputs everywhere. step > 0.
FCN_EXT_HOST_DEVICE inline int64_t first_output_of_line(const BilinearAxis& axis, int64_t node) {
  return ceil_divide(node * axis.denominator - axis.start, axis.step);
}

// The first output whose node is `node` or beyond, in [0, output_size]. The outputs of one node,
// its band, are [first_output(node), first_output(node + 1)). Band i - 1 reads input i as upper
// neighbor, band i as lower one. A gradient is therefore a gather.
FCN_EXT_HOST_DEVICE inline int64_t first_output(const BilinearAxis& axis, int64_t node) {
  if (axis.clamp && node <= 0) {
    return 0;
  }
  if (node >= axis.input_size) {
    return axis.output_size;
  }
  if (axis.step == 0) {
    return axis.output_size;
  }
  const int64_t first = first_output_of_line(axis, node);
  return first < 0 ? 0 : (first > axis.output_size ? axis.output_size : first);
}

// Outputs from one node to the next if that number is whole, so that weights repeat; else 0.
FCN_EXT_HOST_DEVICE inline int64_t whole_stride(const BilinearAxis& axis) {
  return axis.step > 0 && axis.denominator % axis.step == 0 ? axis.denominator / axis.step : 0;
}

// ---------------------------------------------------------------- cells
//
// Cell q of an axis is the part of the line between nodes q - 1 and q; there are input_size + 1
// cells. The outputs that a clamped axis moves onto its first or last node lie in the cell beyond
// that node, which reads it twice.

// The axis with all outputs where the line has them, not clamped.
FCN_EXT_HOST_DEVICE inline BilinearAxis unclamped(BilinearAxis axis) {
  axis.clamp = false;
  return axis;
}

// The common denominator of the weights of all outputs.
inline double whole_weight(const BilinearAxis& axis) {
  return static_cast<double>(axis.denominator);
}

// The distance between outputs, in nodes: how much the upper weight grows within a cell.
FCN_EXT_HOST_DEVICE inline double weight_step(const BilinearAxis& axis) {
  return static_cast<double>(axis.step) / static_cast<double>(axis.denominator);
}

// The most outputs that a cell has.
inline int64_t most_outputs_of_cell(const BilinearAxis& axis) {
  return axis.step == 0 ? axis.output_size : ceil_divide(axis.denominator, axis.step);
}

// Whether cells between the first and the last output may have no outputs.
inline bool has_empty_cells(const BilinearAxis& axis) {
  return axis.step == 0 || axis.step > axis.denominator;
}

// Whether an output may lie on a node: it must not read the next node, not even with weight zero.
inline bool may_meet_node(const BilinearAxis& axis) {
  int64_t divisor = axis.denominator;  // greatest common divisor of step and denominator
  for (int64_t rest = axis.step; rest != 0;) {
    const int64_t next = divisor % rest;
    divisor = rest;
    rest = next;
  }
  return axis.start % divisor == 0;
}

// The outputs of a cell are numbered by phase, from its lower node on. Where whole_stride() > 0,
// phase 0 lies equally far past the node of every cell; this is how far, in [0, step).
inline int64_t phase_zero(const BilinearAxis& axis) {
  return bilinear_tap(unclamped(axis), 0).numerator % axis.step;
}

// The phase of an output, given how far it lies past its node.
inline int64_t phase_of(const BilinearAxis& axis, int64_t numerator) {
  return numerator / axis.step;
}

// The tap of a phase in a cell whose phase 0 lies `zero` past its node. Past the cell: its upper
// node.
inline BilinearTap phase_tap(const BilinearAxis& axis, int64_t zero, int64_t phase) {
  const int64_t numerator = zero + phase * axis.step;
  return {0, numerator < axis.denominator ? numerator : axis.denominator};
}

}  // namespace fcn_ext
