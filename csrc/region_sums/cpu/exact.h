// Cells that progressions cannot handle (softmax/cpu/exact.h): pixel by pixel, in double. For
// kernels.cpp only.
#pragma once

#include "region_sums/cpu/kernels.h"
#include "softmax/cpu/exact.h"

namespace fcn_ext {
namespace {

// One pixel of such a cell, with its probabilities.
struct ExactPixel {
  const CornerWeights& weight;
  const double* power;  // [classes]: P_c * sum
  double sum;
  double loss;  // -ln P_y
  int32_t label;
  int64_t at;  // its index in the strip's arrays

  double probability(int64_t c) const { return power[c] / sum; }
};

// Loads the corners of cell `cell` (local) below padded node row `row` and calls visit(pixel) for
// its pixels that count.
template <typename accumulate_t, typename Visit>
void visit_exact_cell(const Strip<accumulate_t>& strip, const Group<accumulate_t>& group,
                      int64_t row, int64_t cell, const ExactScratch& scratch, const Visit& visit) {
  const int64_t column = strip.first_cell + cell;
  load_corners(strip, group, row, cell, scratch);
  for (int64_t k = 0; k < strip.rows.rows; ++k) {
    for (int64_t output = strip.work.x.begin[column]; output < strip.work.x.begin[column + 1];
         ++output) {
      const int64_t at = k * strip.rows.pitch + output - strip.rows.first_column;
      const int32_t label = strip.rows.labels[at];
      if (label < 0) {
        continue;
      }
      const CornerWeights weight(strip.work.y, strip.work.x, strip.rows.first_row + k, output);
      double sum = 0;
      const double ln_sum = log_sum(weight, strip.input.classes, scratch, sum);
      // By the arithmetic of the sum, so that the loss of a score far above all others is zero.
      const auto corner = [&](int i) { return all_lanes<double>(scratch.corner[i][label]); };
      visit(ExactPixel{weight, scratch.logit, sum, ln_sum - blend(weight, corner)[0], label, at});
    }
  }
}

// Where a unit's sums over pixels are gathered, [classes].
struct UnitSums {
  double* probability;
  double* intersection;
  double* squared;  // null: not wanted
};

template <typename accumulate_t>
void add_exact_sums(const Strip<accumulate_t>& strip, const Group<accumulate_t>& group, int64_t row,
                    int64_t cell, const UnitSums& to, double& loss, const ExactScratch& scratch) {
  visit_exact_cell(strip, group, row, cell, scratch, [&](const ExactPixel& pixel) {
    for (int64_t c = 0; c < strip.input.classes; ++c) {
      const double probability = pixel.probability(c);
      to.probability[c] += probability;
      if (to.squared != nullptr) {
        to.squared[c] += probability * probability;
      }
    }
    to.intersection[pixel.label] += pixel.probability(pixel.label);
    loss += static_cast<double>(strip.pixel_weight[pixel.at]) * pixel.loss;
  });
}

// The gradients A, B, 2 D and E of an image; null stands for zero.
template <typename accumulate_t>
struct ImageGradients {
  const accumulate_t* probability;
  const accumulate_t* intersection;
  const accumulate_t* squared;
  accumulate_t loss;
};

template <typename accumulate_t>
void add_exact_gradients(const Strip<accumulate_t>& strip, const Group<accumulate_t>& group,
                         int64_t row, int64_t cell, const ImageGradients<accumulate_t>& of,
                         const CornerSums<accumulate_t>& to, const ExactScratch& scratch) {
  const int64_t classes = strip.input.classes;
  visit_exact_cell(strip, group, row, cell, scratch, [&](const ExactPixel& pixel) {
    double mean = 0;
    for (int64_t c = 0; c < classes; ++c) {
      const double p = pixel.probability(c);
      mean += static_cast<double>(of.probability[c]) * p;
      if (of.squared != nullptr) {
        mean += static_cast<double>(of.squared[c]) * p * p;
      }
    }
    double own = static_cast<double>(of.intersection[pixel.label]) * pixel.probability(pixel.label);
    if (of.loss != 0) {
      own -= static_cast<double>(of.loss) * static_cast<double>(strip.pixel_weight[pixel.at]);
    }
    mean += own;
    for (int64_t c = 0; c < classes; ++c) {
      const double p = pixel.probability(c);
      double gradient = p * (static_cast<double>(of.probability[c]) - mean);
      if (of.squared != nullptr) {
        gradient += static_cast<double>(of.squared[c]) * p * p;
      }
      gradient += c == pixel.label ? own : 0.0;
      for (int i = 0; i < 4; ++i) {
        if (pixel.weight.at[i] != 0) {
          scratch.share[i][c] += pixel.weight.at[i] * gradient;
        }
      }
    }
  });
  accumulate_t* const corners[4] = {to.above_left, to.above_right, to.below_left, to.below_right};
  for (int i = 0; i < 4; ++i) {
    for (int64_t c = 0; c < classes; ++c) {
      corners[i][c * to.pitch + cell] += static_cast<accumulate_t>(scratch.share[i][c]);
    }
  }
}

}  // namespace
}  // namespace fcn_ext
