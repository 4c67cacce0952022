// Where gradients and labels gather on CPU: node rows, until both cell rows beside one are done.
// For kernels.cpp only.
#pragma once

#include "cross_entropy/cpu/strip.h"

namespace fcn_ext {
namespace {

// What of the gradient has gathered at a node row, lanes = cells: at their left and right nodes.
template <typename accumulate_t>
struct RowSums {
  accumulate_t* left;
  accumulate_t* right;
  LabelSums labels;
};

template <typename element_t>
class NodeGradients {
  using accumulate_t = AccumulateOf<element_t>;
  using lanes_t = Register<accumulate_t>;
  static constexpr int64_t kStep = kWidth<accumulate_t>;

 public:
  double label_loss = 0;  // the labels' part of the loss

  NodeGradients(const Strip<element_t>& given, Scratch& scratch) : strip(given) {
    finished = scratch.take<accumulate_t>(strip.pitch);
    smoothing = scratch.take<double>(strip.pitch);
  }

  static RowSums<accumulate_t> take(const Strip<element_t>& strip, Scratch& scratch) {
    const int64_t classes = strip.work.problem.shape.channels;
    const int64_t size = strip.wants_gradient() ? classes * strip.pitch : 0;
    return {
        scratch.take<accumulate_t>(size),
        scratch.take<accumulate_t>(size),
        {scratch.take<double>(classes * strip.pitch), strip.pitch, scratch.take<uint8_t>(classes)}};
  }

  void clear(const RowSums<accumulate_t>& row) {
    const int64_t classes = strip.input.classes;
    for (int64_t i = 0; strip.wants_gradient() && i < classes * strip.pitch; i += kStep) {
      store_register(row.left + i, lanes_t{});
      store_register(row.right + i, lanes_t{});
    }
    for (int64_t c = 0; c < classes; ++c) {
      row.labels.touched[c] = 0;
    }
  }

  void fold(const RowSums<accumulate_t>& pad, const RowSums<accumulate_t>& border) {
    const int64_t classes = strip.input.classes;
    for (int64_t i = 0; strip.wants_gradient() && i < classes * strip.pitch; ++i) {
      border.left[i] += pad.left[i];
      border.right[i] += pad.right[i];
    }
    for (int64_t c = 0; c < classes; ++c) {
      if (pad.labels.touched[c] != 0) {
        double* to = border.labels.row(static_cast<int32_t>(c));
        for (int64_t i = 0; i < strip.pitch; ++i) {
          to[i] += pad.labels.sums[c * strip.pitch + i];
        }
      }
    }
  }

  // Padded node row q is complete (`partial`: but for what the next unit adds). Subtracts what its
  // labels add, writes its gradient and takes its part of the loss.
  void finish(int64_t q, const NodeRow<accumulate_t>& nodes, const RowSums<accumulate_t>& row,
              bool partial) {
    const int64_t classes = strip.input.classes;
    // Real nodes of the strip, by local number.
    const int64_t begin = strip.first_cell == 0 ? 1 : 0;
    const int64_t end =
        strip.first_cell + strip.cells > strip.work.x.nodes ? strip.cells : strip.cells + 1;
    const bool smooth = strip.work.smoothing_weight != nullptr;
    for (int64_t i = 0; i < strip.pitch; ++i) {
      smoothing[i] = 0;
    }
    for (int64_t c = 0; c < classes; ++c) {
      if (row.labels.touched[c] == 0) {
        continue;
      }
      fold_columns(row.labels.sums + c * strip.pitch, begin, end);
      for (int64_t i = 0; smooth && i < strip.pitch; ++i) {
        smoothing[i] += row.labels.sums[c * strip.pitch + i];
      }
    }
    for (int64_t c = 0; c < classes; ++c) {
      const double* labels =
          row.labels.touched[c] != 0 ? row.labels.sums + c * strip.pitch : nullptr;
      if (strip.work.result == CrossEntropyResult::kSum) {
        if (labels != nullptr) {
          label_loss += strip.work.label_weight[c] * dot(q, c, labels, begin, end, nodes);
        }
        if (smooth) {
          label_loss += strip.work.smoothing_weight[c] * dot(q, c, smoothing, begin, end, nodes);
        }
      }
      if (strip.wants_gradient()) {
        write_gradient(q, c, labels, row, begin, end, partial);
      }
    }
  }

 private:
  const Strip<element_t>& strip;
  accumulate_t* finished;
  double* smoothing;

  template <typename T>
  void fold_columns(T* values, int64_t begin, int64_t end) const {
    if (strip.work.x.clamp && begin == 1) {
      values[1] += values[0];
    }
    if (strip.work.x.clamp && end == strip.cells) {
      values[strip.cells - 1] += values[strip.cells];
    }
  }

  double scale() const { return 1 / (strip.work.x.denominator * strip.work.y.denominator); }

  // Sum over nodes of labels * (score - peak).
  double dot(int64_t q, int64_t c, const double* labels, int64_t begin, int64_t end,
             const NodeRow<accumulate_t>& nodes) const {
    double sum = 0;
    const element_t* from =
        strip.input.image + c * strip.input.strides.channel + (q - 1) * strip.input.strides.row;
    for (int64_t i = begin; i < end; ++i) {
      if (labels[i] != 0) {
        const element_t* node = from + (strip.first_cell + i - 1) * strip.input.strides.column;
        sum += labels[i] * (static_cast<double>(load(*node)) - static_cast<double>(nodes.peak[i]));
      }
    }
    return sum * scale();
  }

  void write_gradient(int64_t q, int64_t c, const double* labels, const RowSums<accumulate_t>& row,
                      int64_t begin, int64_t end, bool partial) {
    const accumulate_t* left = row.left + c * strip.pitch;
    const accumulate_t* right = row.right + c * strip.pitch;
    finished[0] = left[0];
    for (int64_t i = 1; i <= strip.cells; ++i) {
      finished[i] = left[i] + right[i - 1];
    }
    fold_columns(finished, begin, end);
    if (labels != nullptr) {
      const double factor = strip.work.label_weight[c] * scale();
      for (int64_t i = begin; i < end; ++i) {
        finished[i] -= static_cast<accumulate_t>(factor * labels[i]);
      }
    }
    if (strip.work.smoothing_weight != nullptr) {
      const double factor = strip.work.smoothing_weight[c] * scale();
      for (int64_t i = begin; i < end; ++i) {
        finished[i] -= static_cast<accumulate_t>(factor * smoothing[i]);
      }
    }
    const int64_t column = partial ? 1 : strip.work.gradient_strides.column;
    auto* to = partial ? static_cast<accumulate_t*>(strip.work.edge) +
                             (strip.unit_index * strip.input.classes + c) * strip.input.columns
                       : static_cast<accumulate_t*>(strip.work.gradient) +
                             strip.rows.image * strip.work.gradient_strides.batch +
                             c * strip.work.gradient_strides.channel +
                             (q - 1) * strip.work.gradient_strides.row;
    to += (strip.first_cell - 1) * column;
    // The node that strips share is the left one's too.
    if (begin == 0) {
      to[0] += finished[0];
    }
    for (int64_t i = 1; i < end; ++i) {
      to[i * column] = finished[i];
    }
  }
};

}  // namespace
}  // namespace fcn_ext
