// Gathers gradients in node rows until the cell rows on both sides of a row are done.
#pragma once

#include "softmax/cpu/strip.h"

namespace fcn_ext {
namespace {

// The gradient gathered so far at a node row, lanes = cells: at their left and right nodes.
template <typename accumulate_t>
struct NodeSums {
  accumulate_t* left;  // [c * pitch + cell]
  accumulate_t* right;
};

template <typename accumulate_t>
class NodeGradients {
 public:
  NodeGradients(const Strip<accumulate_t>& given, Scratch& scratch) : strip(given) {
    finished = scratch.take<accumulate_t>(strip.pitch);
  }

  // Takes no memory if no gradient is wanted.
  static NodeSums<accumulate_t> take(const Strip<accumulate_t>& strip, Scratch& scratch) {
    const int64_t size = strip.wants_gradient() ? strip.work.shape.channels * strip.pitch : 0;
    accumulate_t* left = scratch.take<accumulate_t>(size);
    return {left, scratch.take<accumulate_t>(size)};
  }

  void clear(const NodeSums<accumulate_t>& row) const {
    for (int64_t i = 0; i < elements(); i += kWidth<accumulate_t>) {
      store_register(row.left + i, Register<accumulate_t>{});
      store_register(row.right + i, Register<accumulate_t>{});
    }
  }

  // Adds the sums of a clamped pad to the border's row, which the pad repeats.
  void fold(const NodeSums<accumulate_t>& pad, const NodeSums<accumulate_t>& border) const {
    for (int64_t i = 0; i < elements(); ++i) {
      border.left[i] += pad.left[i];
      border.right[i] += pad.right[i];
    }
  }
  // Likewise for the pad columns beside a strip's nodes [begin(), end()).
  template <typename T>
  void fold_columns(T* values) const {
    if (strip.work.x.clamp && begin() == 1) {
      values[1] += values[0];
    }
    if (strip.work.x.clamp && end() == strip.cells) {
      values[strip.cells - 1] += values[strip.cells];
    }
  }

  // The strip's nodes that are in the input, [begin(), end()), by local number.
  int64_t begin() const { return strip.first_cell == 0 ? 1 : 0; }
  int64_t end() const {
    return strip.first_cell + strip.cells > strip.work.x.nodes ? strip.cells : strip.cells + 1;
  }

  // Returns the sums of class c at the nodes, to which the caller may add other gradients.
  accumulate_t* gather(int64_t c, const NodeSums<accumulate_t>& row) {
    const accumulate_t* left = row.left + c * strip.pitch;
    const accumulate_t* right = row.right + c * strip.pitch;
    finished[0] = left[0];
    for (int64_t i = 1; i <= strip.cells; ++i) {
      finished[i] = left[i] + right[i - 1];
    }
    fold_columns(finished);
    return finished;
  }

  // Writes what was gathered for padded node row q. `partial`: the next unit owns that row.
  void write(int64_t q, int64_t c, bool partial) const {
    const int64_t column = partial ? 1 : strip.work.gradient_strides.column;
    auto* to = partial ? static_cast<accumulate_t*>(strip.work.edge) +
                             (strip.unit_index * strip.input.classes + c) * strip.input.columns
                       : static_cast<accumulate_t*>(strip.work.gradient) +
                             strip.rows.image * strip.work.gradient_strides.batch +
                             c * strip.work.gradient_strides.channel +
                             (q - 1) * strip.work.gradient_strides.row;
    to += (strip.first_cell - 1) * column;
    // The strip on the left has added its part of the node that both share.
    if (begin() == 0) {
      to[0] += finished[0];
    }
    const int64_t last = end();
    const accumulate_t* __restrict from = finished;
    accumulate_t* __restrict out = to;
    if (column == 1) {  // whole registers at a time
      for (int64_t i = 1; i < last; ++i) {
        out[i] = from[i];
      }
      return;
    }
    for (int64_t i = 1; i < last; ++i) {
      out[i * column] = from[i];
    }
  }

 private:
  const Strip<accumulate_t>& strip;
  accumulate_t* finished;

  int64_t elements() const {
    return strip.wants_gradient() ? strip.input.classes * strip.pitch : 0;
  }
};

}  // namespace
}  // namespace fcn_ext
