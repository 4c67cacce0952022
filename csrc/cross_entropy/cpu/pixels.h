// The weights of the current pixels in the sum of log-sums, and the losses of single pixels. For
// kernels.cpp only.
#pragma once

#include "cross_entropy/cpu/labels.h"
#include "softmax/cpu/nodes.h"

namespace fcn_ext {
namespace {

// The gradient of the first of the current pixels; rows follow at the width of the output.
template <typename accumulate_t>
const accumulate_t* pixel_grad(const CrossEntropyWork& work, const Strip<accumulate_t>& strip) {
  return static_cast<const accumulate_t*>(work.pixel_grad) +
         (strip.rows.image * strip.work.y.outputs + strip.rows.first_row) * strip.work.x.outputs +
         strip.rows.first_column;
}

// strip.pixel_weight = a_y of every pixel, times the pixel's own gradient if there is one.
template <typename accumulate_t>
void weigh_pixels(const CrossEntropyWork& work, const Strip<accumulate_t>& strip) {
  const PixelRows& rows = strip.rows;
  const auto* table = static_cast<const accumulate_t*>(work.lse_weight) + 1;
  for (int64_t k = 0; k < rows.rows; ++k) {
    const int32_t* __restrict label = rows.row(k);
    accumulate_t* __restrict weight = strip.pixel_weight + k * rows.pitch;
    if (work.plain) {
      for (int64_t x = 0; x < rows.columns; ++x) {
        weight[x] = label[x] < 0 ? accumulate_t(0) : accumulate_t(1);
      }
    } else {
      for (int64_t x = 0; x < rows.columns; ++x) {
        weight[x] = table[label[x]];
      }
    }
    if (work.result == CrossEntropyResult::kPixelsGradient) {
      const accumulate_t* grad = pixel_grad(work, strip) + k * strip.work.x.outputs;
      for (int64_t x = 0; x < rows.columns; ++x) {
        weight[x] = label[x] < 0 ? accumulate_t(0) : weight[x] * grad[x];
      }
    }
  }
}

// The loss of a pixel as a sum of terms that are not negative, so that infinite weights cannot
// cancel. relative(c): the pixel's score of class c, minus its bound.
template <typename Relative>
__attribute__((noinline)) double loss_by_terms(const CrossEntropyWork& work, double ln_sum,
                                               int32_t label, const Relative& relative) {
  const auto surprise = [&](int64_t c) {
    const double found = ln_sum - relative(c);
    return found < 0 ? 0.0 : found;  // negative by rounding only
  };
  double loss = work.label_weight[label] * surprise(label);
  for (int64_t c = 0; work.smoothing_weight != nullptr && c < work.problem.shape.channels; ++c) {
    loss += work.smoothing_weight[c] * surprise(c);
  }
  return loss;
}

// What all scores of a node, minus its peak, count by label smoothing. The pixels around it take
// their bilinear means of this.
template <typename accumulate_t>
double smoothed_node(const CrossEntropyWork& work, const Strip<accumulate_t>& strip, int64_t row,
                     int64_t column, accumulate_t peak) {
  double sum = 0;
  if (work.smoothing_weight != nullptr && strip.input.locate(row, column)) {
    const auto at = strip.input.at(row, column);
    for (int64_t c = 0; c < strip.input.classes; ++c) {
      const auto score = static_cast<double>(strip.input.score(at, c));
      sum += work.smoothing_weight[c] * (score - static_cast<double>(peak));
    }
  }
  return sum;
}

// loss(p) from ln S(p) and the pixel's own scores.
template <typename accumulate_t>
void pixel_losses(const CrossEntropyWork& work, const Strip<accumulate_t>& strip, int64_t q,
                  const NodeRow<accumulate_t>& above, const NodeRow<accumulate_t>& below) {
  double smoothed[4] = {0, smoothed_node(work, strip, q, strip.first_cell, above.peak[0]), 0,
                        smoothed_node(work, strip, q + 1, strip.first_cell, below.peak[0])};
  for (int64_t cell = 0; cell < strip.cells; ++cell) {
    const double peak[4] = {
        static_cast<double>(above.peak[cell]), static_cast<double>(above.peak[cell + 1]),
        static_cast<double>(below.peak[cell]), static_cast<double>(below.peak[cell + 1])};
    const int64_t next = strip.first_cell + cell + 1;
    smoothed[0] = smoothed[1];
    smoothed[1] = smoothed_node(work, strip, q, next, above.peak[cell + 1]);
    smoothed[2] = smoothed[3];
    smoothed[3] = smoothed_node(work, strip, q + 1, next, below.peak[cell + 1]);
    for (int64_t k = 0; k < strip.rows.rows; ++k) {
      auto* out = static_cast<accumulate_t*>(work.pixel_loss) +
                  (strip.rows.image * strip.work.y.outputs + strip.rows.first_row + k) *
                      strip.work.x.outputs;
      for (int64_t x = strip.work.x.begin[strip.first_cell + cell];
           x < strip.work.x.begin[strip.first_cell + cell + 1]; ++x) {
        const int32_t label = strip.rows.row(k)[x - strip.rows.first_column];
        if (label < 0) {
          out[x] = 0;
          continue;
        }
        const CornerWeights weight(strip.work.y, strip.work.x, strip.rows.first_row + k, x);
        const auto relative = [&](int64_t c) {
          double sum = 0;
          for (int i = 0; i < 4; ++i) {
            int64_t row = q + i / 2, column = strip.first_cell + cell + i % 2;
            if (weight.at[i] != 0 && strip.input.locate(row, column)) {
              const accumulate_t score = strip.input.score(strip.input.at(row, column), c);
              sum += weight.at[i] * (static_cast<double>(score) - peak[i]);
            }
          }
          return sum;
        };
        const auto* lse_weight = static_cast<const accumulate_t*>(work.lse_weight) + 1;
        double loss = static_cast<double>(lse_weight[label]) *
                          strip.ln_sums[k * strip.rows.pitch + x - strip.rows.first_column] -
                      work.label_weight[label] * relative(label);
        for (int i = 0; i < 4; ++i) {
          loss -= weight.at[i] != 0 ? weight.at[i] * smoothed[i] : 0.0;
        }
        if (!work.softmax.finite) {
          loss =
              loss_by_terms(work, strip.ln_sums[k * strip.rows.pitch + x - strip.rows.first_column],
                            label, relative);
        }
        out[x] = static_cast<accumulate_t>(loss);
      }
    }
  }
}

}  // namespace
}  // namespace fcn_ext
