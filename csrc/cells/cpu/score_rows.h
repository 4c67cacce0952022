// Rows of coarse scores of one strip, all classes, in the accumulation type. For *kernels.cpp files
// only (common/cpu/capability.h says why the anonymous namespace).
#pragma once

#include "cells/cpu/cells.h"
#include "common/cpu/lanes_math.h"
#include "common/cpu/scratch.h"

namespace fcn_ext {
namespace {

// The scores of one image, in any layout, with pads.
template <typename accumulate_t>
struct Scores {
  const void* data;
  int element;
  PlaneStrides strides;
  int64_t image;  // where the image begins, in elements
  int64_t rows, columns, classes;
  bool clamp;

  Scores() = default;
  Scores(const ScoreMap& map, const BilinearShape& shape, int64_t of_image, bool clamped)
      : data(map.data),
        element(map.element),
        strides(map.strides),
        image(of_image * map.strides.batch),
        rows(shape.y.input_size),
        columns(shape.x.input_size),
        classes(shape.channels),
        clamp(clamped) {}

  // Whether padded node (row, column) is a node of the input; moves a clamped pad onto its node.
  bool locate(int64_t& row, int64_t& column) const {
    --row;
    --column;
    if (clamp) {
      row = row < 0 ? 0 : row < rows ? row : rows - 1;
      column = column < 0 ? 0 : column < columns ? column : columns - 1;
    }
    return row >= 0 && row < rows && column >= 0 && column < columns;
  }
  // The element index of class 0 at node (row, column), which is not a pad.
  int64_t at(int64_t row, int64_t column) const {
    return image + row * strides.row + column * strides.column;
  }
  // Calls body(data) with a pointer of the elements' own type, which at() indexes.
  template <typename Body>
  auto with_data(const Body& body) const {
    return with_elements<accumulate_t>(data, element, body);
  }
  // The score of class c at a node, given as its at().
  accumulate_t score(int64_t node, int64_t c) const {
    return with_data([&](const auto* from) {
      return static_cast<accumulate_t>(load(from[node + c * strides.channel]));
    });
  }
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

// Sixteen classes, which are adjacent in memory, at a time: a block is transposed in registers.
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

// scores[c * pitch + i] = score at padded node (row, first + i), i < count; zero beyond, so that
// whole registers can be read. Returns whether the row is in the input or a clamped pad.
template <typename accumulate_t>
bool load_scores(const Scores<accumulate_t>& input, int64_t row, int64_t first, int64_t count,
                 int64_t pitch, accumulate_t* out) {
  const int64_t classes = input.classes;
  int64_t node_row = row, node_column = first;
  const bool inside = input.clamp || (row >= 1 && row <= input.rows);
  input.locate(node_row, node_column);
  if (!inside) {
    for (int64_t i = 0; i < classes * pitch; ++i) {
      out[i] = 0;
    }
    return false;
  }
  // The nodes of the input, and the pads at either end.
  const int64_t left = first < 1 ? 1 : 0;
  const int64_t right = first + count - 1 > input.columns ? 1 : 0;
  const int64_t middle = count - left - right;
  const bool by_class = input.strides.column == 1 || input.strides.channel != 1;
  const int64_t begin = input.at(node_row, first - 1 + left);
  input.with_data([&](const auto* data) {
    const auto* from = data + begin;
    if (!by_class) {
      copy_nodes_channels_last(from, input.strides.column, classes, middle, pitch, out + left);
      return;
    }
    for (int64_t c = 0; c < classes; ++c) {
      copy_nodes(from + c * input.strides.channel, input.strides.column, middle,
                 out + c * pitch + left);
    }
  });
  for (int64_t c = 0; c < classes; ++c) {
    accumulate_t* scores = out + c * pitch;
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
  return true;
}

// A pixel's exact weights on the corners of its cell: above left, above right, below left, below
// right.
struct CornerWeights {
  double at[4];

  CornerWeights(const CellAxis& y, const CellAxis& x, int64_t row, int64_t column) {
    const double y_upper = y.upper_part[row] / y.whole;
    const double x_upper = x.upper_part[column] / x.whole;
    at[0] = (1 - y_upper) * (1 - x_upper);
    at[1] = (1 - y_upper) * x_upper;
    at[2] = y_upper * (1 - x_upper);
    at[3] = y_upper * x_upper;
  }
};

// Whether any cell of a register has an output in a column. output: the output of each lane, or -1.
template <typename accumulate_t>
inline bool any_output(const int32_t* output) {
  for (int64_t lane = 0; lane < kWidth<accumulate_t>; ++lane) {
    if (output[lane] >= 0) {
      return true;
    }
  }
  return false;
}

template <int rows>
struct Rows {
  static constexpr int count = rows;
};

// Calls body(Rows<rows>()): a constant, so that loops over rows unroll.
template <typename Body>
inline void with_rows(int64_t rows, const Body& body) {
  switch (rows) {
    case 1:
      return body(Rows<1>());
    case 2:
      return body(Rows<2>());
    case 3:
      return body(Rows<3>());
    case 4:
      return body(Rows<4>());
    case 5:
      return body(Rows<5>());
    case 6:
      return body(Rows<6>());
    case 7:
      return body(Rows<7>());
    default:
      return body(Rows<8>());
  }
}

constexpr int64_t kMostRows = 8;  // the most rows of a cell row that are worked on at once

}  // namespace
}  // namespace fcn_ext
