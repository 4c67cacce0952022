// Rows of a map in any layout, and the sizes of scratch rows, for forward and backward CPU kernels.
// For *_kernels.cpp only (common/cpu/capability.h says why the anonymous namespace).
#pragma once

#include "bilinear/cpu/kernels.h"
#include "common/cpu/element.h"
#include "common/cpu/scratch.h"

namespace fcn_ext {
namespace {

// ---------------------------------------------------------------- sizes of scratch rows

// For a tile of output columns, with a whole cell of slack at either end and room for whole lanes.
int64_t wide_size(const BilinearWork& work, int64_t columns) {
  return (columns + 2 * work.x.stride) * work.inner + kAlign;
}

// For the input nodes of a tile, with one beyond either border and room for whole lanes.
int64_t narrow_size(const BilinearWork& work) {
  return (work.shape.x.input_size + 2) * work.inner + kAlign;
}

// ---------------------------------------------------------------- rows in any layout

// The start of a plane, and the strides inside it.
template <typename element_t>
struct PlaneView {
  const element_t* data;
  int64_t row, column, channel;

  PlaneView(const void* base, const PlaneStrides& strides, const BilinearWork& work, int64_t plane)
      : row(strides.row), column(strides.column), channel(strides.channel) {
    const int64_t image = work.inner == 1 ? plane / work.shape.channels : plane;
    const int64_t first_channel = work.inner == 1 ? plane % work.shape.channels : 0;
    data = static_cast<const element_t*>(base) + image * strides.batch +
           first_channel * strides.channel;
  }

  // Whether the elements of a row are adjacent in the output's order.
  bool dense(int64_t inner) const { return column == inner && (inner == 1 || channel == 1); }

  // Copies elements [begin, end) of row y in the accumulation type.
  template <typename accumulate_t>
  void copy(int64_t y, int64_t begin, int64_t end, int64_t inner, accumulate_t* out) const {
    const element_t* from = data + y * row;
    if (dense(inner)) {
      return copy_dense(from + begin * inner, (end - begin) * inner, out);
    }
    for (int64_t x = begin; x < end; ++x) {
      for (int64_t c = 0; c < inner; ++c) {
        *out++ = load(from[x * column + c * channel]);
      }
    }
  }

 private:
  template <typename accumulate_t>
  static void copy_dense(const element_t* from, int64_t n, accumulate_t* out) {
    constexpr int64_t kStep = kLanes<element_t>;
    int64_t i = 0;
    for (; i + kStep <= n; i += kStep) {
      store_lanes<false>(out + i, load_lanes(from + i));
    }
    for (; i < n; ++i) {
      out[i] = load(from[i]);
    }
  }
};

}  // namespace
}  // namespace fcn_ext
