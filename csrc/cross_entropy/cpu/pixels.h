// The loss of every pixel on CPU. For kernels.cpp only.
#pragma once

#include "cross_entropy/cpu/strip.h"

namespace fcn_ext {
namespace {

// loss(p) from ln S(p) and the pixel's own scores.
template <typename element_t, typename accumulate_t>
void pixel_losses(const Strip<element_t>& strip, int64_t q, const NodeRow<accumulate_t>& above,
                  const NodeRow<accumulate_t>& below) {
  for (int64_t k = 0; k < strip.rows.rows; ++k) {
    auto* out =
        static_cast<accumulate_t*>(strip.work.pixel_loss) +
        (strip.rows.image * strip.work.y.outputs + strip.rows.first_row + k) * strip.work.x.outputs;
    for (int64_t cell = 0; cell < strip.cells; ++cell) {
      const double peak[4] = {
          static_cast<double>(above.peak[cell]), static_cast<double>(above.peak[cell + 1]),
          static_cast<double>(below.peak[cell]), static_cast<double>(below.peak[cell + 1])};
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
              const element_t* node = strip.input.at(row, column) + c * strip.input.strides.channel;
              sum += weight.at[i] * (static_cast<double>(load(*node)) - peak[i]);
            }
          }
          return sum;
        };
        const auto* lse_weight = static_cast<const accumulate_t*>(strip.work.lse_weight) + 1;
        double loss = static_cast<double>(lse_weight[label]) *
                          strip.ln_sums[k * strip.rows.pitch + x - strip.rows.first_column] -
                      strip.work.label_weight[label] * relative(label);
        for (int64_t c = 0; strip.work.smoothing_weight != nullptr && c < strip.input.classes;
             ++c) {
          loss -= strip.work.smoothing_weight[c] * relative(c);
        }
        out[x] = static_cast<accumulate_t>(loss);
      }
    }
  }
}

}  // namespace
}  // namespace fcn_ext
