// Gathers labels in node rows until the cell rows on both sides of a row are done. A complete row
// gives the labels' part of the loss, and completes its gradient. For kernels.cpp only.
#pragma once

#include "cross_entropy/cpu/labels.h"
#include "softmax/cpu/node_gradients.h"
#include "softmax/cpu/nodes.h"

namespace fcn_ext {
namespace {

template <typename accumulate_t>
class NodeLabels {
 public:
  double loss = 0;  // the labels' part

  NodeLabels(const CrossEntropyWork& given_work, const Strip<accumulate_t>& given_strip,
             NodeGradients<accumulate_t>& given_gradients, Scratch& scratch)
      : work(given_work), strip(given_strip), gradients(given_gradients) {
    smoothing = scratch.take<double>(strip.pitch);
  }

  static LabelSums take(const Strip<accumulate_t>& strip, Scratch& scratch) {
    const int64_t classes = strip.work.shape.channels;
    double* sums = scratch.take<double>(classes * strip.pitch);
    return {sums, strip.pitch, scratch.take<uint8_t>(classes)};
  }

  void clear(const LabelSums& row) const {
    for (int64_t c = 0; c < strip.input.classes; ++c) {
      row.touched[c] = 0;
    }
  }

  // Adds the labels of a clamped pad to the border's row, which the pad repeats.
  void fold(const LabelSums& pad, const LabelSums& border) const {
    for (int64_t c = 0; c < strip.input.classes; ++c) {
      if (pad.touched[c] != 0) {
        double* to = border.row(static_cast<int32_t>(c));
        for (int64_t i = 0; i < strip.pitch; ++i) {
          to[i] += pad.sums[c * strip.pitch + i];
        }
      }
    }
  }

  // Padded node row q is complete (`partial`: except for what the next unit adds). Subtracts the
  // labels' part from its gradient, writes that, and adds the row's part of the loss.
  void finish(int64_t q, const NodeRow<accumulate_t>& nodes, const LabelSums& row,
              const NodeSums<accumulate_t>& sums, bool partial) {
    const int64_t classes = strip.input.classes;
    const bool smooth = work.smoothing_weight != nullptr;
    for (int64_t i = 0; i < strip.pitch; ++i) {
      smoothing[i] = 0;
    }
    for (int64_t c = 0; c < classes; ++c) {
      if (row.touched[c] == 0) {
        continue;
      }
      gradients.fold_columns(row.sums + c * strip.pitch);
      for (int64_t i = 0; smooth && i < strip.pitch; ++i) {
        smoothing[i] += row.sums[c * strip.pitch + i];
      }
    }
    for (int64_t c = 0; c < classes; ++c) {
      const double* labels = row.touched[c] != 0 ? row.sums + c * strip.pitch : nullptr;
      if (work.result == CrossEntropyResult::kSum) {
        if (labels != nullptr) {
          loss += work.label_weight[c] * dot(q, c, labels, nodes);
        }
        if (smooth) {
          loss += work.smoothing_weight[c] * dot(q, c, smoothing, nodes);
        }
      }
      if (strip.wants_gradient()) {
        accumulate_t* finished = gradients.gather(c, sums);
        if (labels != nullptr) {
          subtract(work.label_weight[c], labels, finished);
        }
        if (smooth) {
          subtract(work.smoothing_weight[c], smoothing, finished);
        }
        gradients.write(q, c, partial);
      }
    }
  }

 private:
  const CrossEntropyWork& work;
  const Strip<accumulate_t>& strip;
  NodeGradients<accumulate_t>& gradients;
  double* smoothing;  // per node of a row: labels of all classes

  double scale() const { return 1 / (strip.work.x.whole * strip.work.y.whole); }

  // Sum over nodes of labels * (score - peak).
  double dot(int64_t q, int64_t c, const double* labels, const NodeRow<accumulate_t>& nodes) const {
    double sum = 0;
    const int64_t first =
        strip.input.at(q - 1, strip.first_cell - 1) + c * strip.input.strides.channel;
    strip.input.with_data([&](const auto* from) {
      for (int64_t i = gradients.begin(); i < gradients.end(); ++i) {
        if (labels[i] != 0) {
          const auto score = load(from[first + i * strip.input.strides.column]);
          sum += labels[i] * (static_cast<double>(score) - static_cast<double>(nodes.peak[i]));
        }
      }
    });
    return sum * scale();
  }

  void subtract(double weight, const double* labels, accumulate_t* from) const {
    const double factor = weight * scale();
    if (factor - factor != 0) {  // infinite or NaN: must not touch nodes without labels
      for (int64_t i = gradients.begin(); i < gradients.end(); ++i) {
        from[i] -= static_cast<accumulate_t>(labels[i] != 0 ? factor * labels[i] : 0);
      }
      return;
    }
    for (int64_t i = gradients.begin(); i < gradients.end(); ++i) {
      from[i] -= static_cast<accumulate_t>(factor * labels[i]);
    }
  }
};

}  // namespace
}  // namespace fcn_ext
