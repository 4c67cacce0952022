// Node rows of the CPU cross-entropy: a strip of one row of coarse scores, all classes, relative to
// the largest score of each node. For cross_entropy_kernels_cpu.cpp only.
#pragma once

#include "common/lanes_math_cpu.h"
#include "cross_entropy/cross_entropy_kernels_cpu.h"

namespace fcn_ext {
namespace {

constexpr int64_t kAlign = 64;  // elements, so that every piece of scratch starts on a cache line

inline int64_t padded(int64_t count) { return (count + kAlign - 1) / kAlign * kAlign; }

// Scratch memory handed out piece by piece; without memory it only counts.
struct Scratch {
  char* memory;
  int64_t used = 0;

  template <typename T>
  T* take(int64_t count) {
    T* taken = reinterpret_cast<T*>(memory + used);
    used += padded(count) * static_cast<int64_t>(sizeof(T));
    return taken;
  }
};

constexpr double kLog2E = 1.4426950408889634;
// Stands for -infinity, so that no weight of zero makes it NaN: 2^x is zero all the same.
constexpr double kMasked = -1e30;

// Where scores of the input are, in any layout; pads included.
template <typename element_t>
struct Scores {
  const element_t* image;
  PlaneStrides strides;
  int64_t rows, columns, classes;
  bool clamp;

  // Whether padded node (row, column) is one of the input's; moves a clamped pad onto its node.
  bool locate(int64_t& row, int64_t& column) const {
    --row;
    --column;
    if (clamp) {
      row = row < 0 ? 0 : row < rows ? row : rows - 1;
      column = column < 0 ? 0 : column < columns ? column : columns - 1;
    }
    return row >= 0 && row < rows && column >= 0 && column < columns;
  }
  const element_t* at(int64_t row, int64_t column) const {
    return image + row * strides.row + column * strides.column;
  }
};

// scores[c * pitch + i]: (z_c - peak) * log2(e) at padded node first + i; peak = max over c of z_c.
template <typename accumulate_t>
struct NodeRow {
  accumulate_t* scores;
  accumulate_t* peak;
  accumulate_t* unfit;  // not zero where scores or peak are not finite: NaN or +infinity is there,
                        // or -infinity throughout
};

template <typename element_t, typename accumulate_t>
void copy_nodes(const element_t* from, int64_t step, int64_t count, accumulate_t* to) {
  if (step == 1) {
    constexpr int64_t kStep = kLanes<element_t>;
    int64_t i = 0;
    for (; i + kStep <= count; i += kStep) {
      store_lanes<false>(to + i, load_lanes(from + i));
    }
    if (i < count) {
      store_lanes<false>(to + i, load_first(from + i, count - i));
    }
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    to[i] = load(from[i * step]);
  }
}

// Sixteen classes side by side in memory: a block of them is transposed in registers.
template <typename element_t, typename accumulate_t>
void copy_nodes_channels_last(const element_t* from, int64_t column, int64_t classes, int64_t count,
                              int64_t pitch, accumulate_t* to) {
  constexpr int64_t kBlock = 16;
  for (int64_t c = 0; c < classes; c += kBlock) {
    const int64_t some = classes - c < kBlock ? classes - c : kBlock;
    for (int64_t i = 0; i < count; ++i) {
      const element_t* node = from + i * column + c;
      accumulate_t* out = to + c * pitch + i;
      if (some == kBlock) {
        for (int64_t k = 0; k < kBlock; ++k) {
          out[k * pitch] = load(node[k]);
        }
      } else {
        for (int64_t k = 0; k < some; ++k) {
          out[k * pitch] = load(node[k]);
        }
      }
    }
  }
}

// Padded nodes [first, first + count) of padded row `row`. count is padded with zeros to whole
// registers, and one more register may be read behind.
template <typename element_t, typename accumulate_t>
void load_row(const Scores<element_t>& input, int64_t row, int64_t first, int64_t count,
              int64_t pitch, const NodeRow<accumulate_t>& out) {
  using lanes_t = LanesFor<accumulate_t>;
  constexpr int64_t kStep = kLanes<accumulate_t>;
  const int64_t classes = input.classes;
  int64_t node_row = row, node_column = first;
  const bool inside = input.clamp || (row >= 1 && row <= input.rows);
  input.locate(node_row, node_column);
  for (int64_t i = 0; i < pitch; ++i) {
    out.peak[i] = 0;
    out.unfit[i] = 0;
  }
  if (!inside) {
    for (int64_t i = 0; i < classes * pitch; ++i) {
      out.scores[i] = 0;
    }
    return;
  }
  // The nodes that the input has, and the pads at either end of them.
  const int64_t left = first < 1 ? 1 : 0;
  const int64_t right = first + count - 1 > input.columns ? 1 : 0;
  const int64_t middle = count - left - right;
  const element_t* from = input.at(node_row, first - 1 + left);
  if (input.strides.column != 1 && input.strides.channel == 1) {
    copy_nodes_channels_last(from, input.strides.column, classes, middle, pitch, out.scores + left);
  }
  for (int64_t c = 0; c < classes; ++c) {
    accumulate_t* scores = out.scores + c * pitch;
    if (input.strides.column == 1 || input.strides.channel != 1) {
      copy_nodes(from + c * input.strides.channel, input.strides.column, middle, scores + left);
    }
    if (left != 0) {
      scores[0] = input.clamp ? scores[1] : accumulate_t(0);
    }
    if (right != 0) {
      scores[count - 1] = input.clamp ? scores[count - 2] : accumulate_t(0);
    }
    for (int64_t i = count; i < pitch; ++i) {
      scores[i] = 0;
    }
  }
  constexpr auto kInfinity = static_cast<accumulate_t>(__builtin_inf());
  for (int64_t i = 0; i < pitch; i += kStep) {
    lanes_t peak = all_lanes<accumulate_t>(-kInfinity);
    for (int64_t c = 0; c < classes; ++c) {
      peak = larger(load_lanes(out.scores + c * pitch + i), peak);  // passes over NaN
    }
    const lanes_t finite = peak - peak;  // NaN where it is infinite
    lanes_t unfit = finite != finite ? all_lanes<accumulate_t>(1) : lanes_t{};
    for (int64_t c = 0; c < classes; ++c) {
      accumulate_t* at = out.scores + c * pitch + i;
      const lanes_t relative = (load_lanes(at) - peak) * static_cast<accumulate_t>(kLog2E);
      unfit = relative != relative ? all_lanes<accumulate_t>(1) : unfit;
      store_lanes<false>(at, larger(relative, all_lanes(static_cast<accumulate_t>(kMasked))));
    }
    store_lanes<false>(out.peak + i, peak);
    store_lanes<false>(out.unfit + i, unfit);
  }
}

}  // namespace
}  // namespace fcn_ext
