// The softmax of the current pixel rows: by progressions for groups of cells, and pixel by pixel
// for cells that those cannot handle. It reads the pixels' labels and weights from the strip, where
// it stores their ln S; gradients gather in the node rows above and below.
#pragma once

#include "softmax/cpu/exact.h"
#include "softmax/cpu/groups.h"

namespace fcn_ext {
namespace {

template <typename accumulate_t>
class Softmax {
  using lanes_t = Register<accumulate_t>;
  static constexpr int64_t kStep = kWidth<accumulate_t>;

 public:
  double log_sum2 = 0;  // sum over pixels of their weight times log2 S

  Softmax(const Strip<accumulate_t>& given, Scratch& scratch) : strip(given) {
    const int64_t classes = strip.work.shape.channels;
    sums = scratch.take<lanes_t>((kMostPhases + 1) * kMostRows);
    list.geometric = scratch.take<int32_t>(classes);
    list.direct = scratch.take<int32_t>(classes);
    list.progressions = scratch.take<Progression<accumulate_t>>(classes);
    list.running = scratch.take<lanes_t>(2 * classes);
    exact = ExactScratch::take(scratch, classes);
  }

  // Adds the current rows, which lie between padded node rows q and q + 1.
  void add(int64_t q, const NodeRow<accumulate_t>& above, const NodeRow<accumulate_t>& below,
           const CornerSums<accumulate_t>& to) {
    for_each_group(
        strip, above, below, strip.cells,
        [&](const Group<accumulate_t>& group, int64_t columns) {
          with_rows(strip.rows.rows,
                    [&](auto count) { softmax<decltype(count)::count>(group, columns, to); });
        },
        [&](const Group<accumulate_t>& group, int64_t cell) { add_exact(group, q, cell, to); });
  }

 private:
  const Strip<accumulate_t>& strip;
  ClassList<accumulate_t> list{};
  ExactScratch exact{};
  lanes_t* sums;

  void add_exact(const Group<accumulate_t>& group, int64_t q, int64_t cell,
                 const CornerSums<accumulate_t>& to) {
    exact_cell(strip, group, q, cell, to, exact, [&](int64_t at, double ln_sum) {
      log_sum2 += static_cast<double>(strip.pixel_weight[at]) * ln_sum / kLn2;
      if (strip.work.ln_sums) {
        strip.ln_sums[at] = ln_sum;
      }
    });
  }

  // Whether every lane has every column and every pixel counts with weight one.
  bool uniform(const Group<accumulate_t>& group, int64_t columns) const {
    if (!strip.work.unweighted || strip.work.ln_sums || group.any_exact ||
        columns != kStep * strip.work.x.phases) {
      return false;
    }
    int32_t joined = 0;
    for (int64_t k = 0; k < strip.rows.rows; ++k) {
      const int32_t* label = strip.rows.row(k) +
                             strip.work.x.begin[strip.first_cell + group.first] -
                             strip.rows.first_column;
      for (int64_t x = 0; x < columns; ++x) {
        joined |= label[x];
      }
    }
    return joined >= 0;
  }

  template <int row_count>
  void softmax(const Group<accumulate_t>& group, int64_t columns,
               const CornerSums<accumulate_t>& to) {
    const bool whole = uniform(group, columns);
    list.known = false;
    for (int64_t phase = 0; phase < strip.work.x.phases; phase += kMostPhases) {
      const int32_t* output;
      const Patch<accumulate_t> patch = patch_of<row_count>(strip, group.columns, phase, &output);
      if (patch.columns == 0) {
        continue;
      }
      list_classes(group, patch, list);
      sum_powers<row_count>(group, patch, list, sums);
      lanes_t logs = {};
      for (int64_t column = 0; column < patch.columns; ++column) {
        lanes_t* sum = sums + column * kMostRows;
        if (whole) {
          logs += weigh_uniform<row_count>(sum);
        } else {
          logs += weigh<row_count>(group, output + column * strip.work.x.pitch, sum);
        }
      }
      // Sum no more than a patch in float: equal logarithms are all rounded to the same side.
      log_sum2 += sum_of<accumulate_t>(logs);
      if (strip.wants_gradient()) {
        add_gradients<row_count>(group, patch, list, sums, to);
      }
    }
  }

  // Replaces sums by weight over sum and returns their weighted logarithms. A sum is at least
  // 2^kExact, so two of them can be multiplied.
  template <int row_count>
  lanes_t weigh_uniform(lanes_t* sum) {
    lanes_t logs = {};
    for (int k = 0; k < row_count; k += 2) {
      logs += log2_lanes<accumulate_t>(k + 1 < row_count ? sum[k] * sum[k + 1] : sum[k]);
    }
    for (int k = 0; k < row_count; ++k) {
      sum[k] = reciprocal(sum[k]);
    }
    return logs;
  }

  template <int row_count>
  lanes_t weigh(const Group<accumulate_t>& group, const int32_t* output, lanes_t* sum) {
    lanes_t logs = {};
    for (int k = 0; k < row_count; ++k) {
      lanes_t weight = gather(strip.pixel_weight + k * strip.rows.pitch, output,
                              static_cast<int32_t>(strip.rows.first_column));
      weight = group.exact != 0 ? lanes_t{} : weight;
      const auto counts = weight != 0;
      const lanes_t safe = counts ? sum[k] : all_lanes<accumulate_t>(1);
      const lanes_t log = log2_lanes<accumulate_t>(safe);
      logs += weight * log;
      sum[k] = weight * reciprocal(safe);
      if (strip.work.ln_sums) {
        for (int64_t lane = 0; lane < group.lanes; ++lane) {
          if (output[lane] >= 0 && group.exact[lane] == 0) {
            strip.ln_sums[k * strip.rows.pitch + output[lane] - strip.rows.first_column] =
                kLn2 * static_cast<double>(log[lane]);
          }
        }
      }
    }
    return logs;
  }
};

}  // namespace
}  // namespace fcn_ext
