// What the current pixel rows add, group by group, to the sums of their unit or to the gradients of
// the nodes around them. For kernels.cpp only.
#pragma once

#include "region_sums/cpu/exact.h"
#include "region_sums/cpu/label_runs.h"
#include "region_sums/cpu/powers.h"
#include "softmax/cpu/split_cells.h"

namespace fcn_ext {
namespace {

// What labels add to the corners of the cells of a group, gathered until the labels change.
template <typename accumulate_t>
struct OwnGradients : CornerLanes<accumulate_t> {
  using lanes_t = Register<accumulate_t>;

  // Adds the chosen lanes to their classes' sums, and clears them.
  void store(const CornerSums<accumulate_t>& to, const LabeledLanes<accumulate_t>& lanes,
             int64_t first) {
    const lanes_t below_left = this->below - this->below_right;
    const lanes_t corners[4] = {(this->all - this->all_right) - below_left,
                                this->all_right - this->below_right, below_left, this->below_right};
    accumulate_t* const targets[4] = {to.above_left, to.above_right, to.below_left, to.below_right};
    accumulate_t found[4][kWidth<accumulate_t>];
    for (int i = 0; i < 4; ++i) {
      store_register(found[i], corners[i]);
    }
    lanes.each([&](int lane, int64_t label) {
      for (int i = 0; i < 4; ++i) {
        targets[i][label * to.pitch + first + lane] += found[i][lane];
      }
    });
    lanes_t* const sums[4] = {&this->all, &this->all_right, &this->below, &this->below_right};
    for (lanes_t* sum : sums) {
      *sum = lanes.chosen != 0 ? lanes_t{} : *sum;
    }
  }
};

template <typename accumulate_t>
class Regions {
  using lanes_t = Register<accumulate_t>;
  using labels_t = Integers<accumulate_t>;

 public:
  double loss = 0;
  UnitSums sums{};
  ImageGradients<accumulate_t> gradients{};

  Regions(const RegionSumsWork& given_work, const Strip<accumulate_t>& given, Scratch& scratch)
      : work(given_work), strip(given), split(given, scratch) {
    const int64_t classes = strip.work.shape.channels;
    const int64_t pixels = (kMostPhases + 1) * kMostRows;
    of.sum = scratch.take<lanes_t>(pixels);
    of.plain = scratch.take<lanes_t>(strip.wants_gradient() ? pixels : 0);
    of.squared = scratch.take<lanes_t>(work.squared ? pixels : 0);
    list.geometric = scratch.take<int32_t>(classes);
    list.direct = scratch.take<int32_t>(classes);
    list.progressions = scratch.take<Progression<accumulate_t>>(classes);
    list.running = scratch.take<lanes_t>(2 * classes);
    probability = scratch.take<lanes_t>(strip.wants_gradient() ? 0 : classes);
    squares = scratch.take<lanes_t>(strip.wants_gradient() || !work.squared ? 0 : classes);
    exact = ExactScratch::take(scratch, classes);
  }

  // Takes a loaded node row, `which` of two.
  void begin(const NodeRow<accumulate_t>& row, int which) { split.load(row, which); }

  // Adds to `to` the part of a node row's gradient that the split cells gathered.
  void join(int which, const NodeSums<accumulate_t>& to) const { split.join(which, to); }

  // Adds the current rows, between padded node rows q and q + 1, to the unit's sums.
  void add_sums(int64_t q, const NodeRows<accumulate_t>& nodes, int above, int below) {
    for (int64_t c = 0; c < strip.input.classes; ++c) {
      probability[c] = lanes_t{};
      if (work.squared) {
        squares[c] = lanes_t{};
      }
    }
    for_each(
        nodes, above, below,
        [&](const Group<accumulate_t>& group, bool) {
          with_rows(strip.rows.rows, [&](auto count) {
            constexpr int rows = decltype(count)::count;
            work.squared ? add_group_sums<rows, true>(group) : add_group_sums<rows, false>(group);
          });
        },
        [&](const Group<accumulate_t>& group, int64_t cell) {
          add_exact_sums(strip, group, q, cell, sums, loss, exact);
        });
    // Lanes sum one row of cells, no more: what they round away does not matter.
    for (int64_t c = 0; c < strip.input.classes; ++c) {
      sums.probability[c] += sum_of<accumulate_t>(probability[c]);
      if (work.squared) {
        sums.squared[c] += sum_of<accumulate_t>(squares[c]);
      }
    }
  }

  // Adds the gradients of the current rows to the nodes around them.
  void add_gradients(int64_t q, const NodeRows<accumulate_t>& nodes, int above, int below,
                     const CornerSums<accumulate_t>& to) {
    const CornerSums<accumulate_t> to_split = split.corner_sums(above, below);
    for_each(
        nodes, above, below,
        [&](const Group<accumulate_t>& group, bool is_split) {
          const CornerSums<accumulate_t>& of_group = is_split ? to_split : to;
          with_rows(strip.rows.rows, [&](auto count) {
            constexpr int rows = decltype(count)::count;
            work.squared ? add_group_gradients<rows, true>(group, of_group)
                         : add_group_gradients<rows, false>(group, of_group);
          });
        },
        [&](const Group<accumulate_t>& group, int64_t cell) {
          add_exact_gradients(strip, group, q, cell, gradients, to, exact);
        });
  }

 private:
  const RegionSumsWork& work;
  const Strip<accumulate_t>& strip;
  SplitCells<accumulate_t> split;
  PixelSums<accumulate_t> of{};
  ClassList<accumulate_t> list{};
  ExactScratch exact{};
  lanes_t* probability;  // [classes]: sums over the current rows, lanes = cells
  lanes_t* squares;

  // Calls on_group(group, whether its cells are split) and on_exact(group, cell).
  template <typename OnGroup, typename OnExact>
  void for_each(const NodeRows<accumulate_t>& nodes, int above, int below, const OnGroup& on_group,
                const OnExact& on_exact) const {
    const auto on_whole = [&](const Group<accumulate_t>& group, int64_t) {
      on_group(group, false);
    };
    const auto on_split = [&](const Group<accumulate_t>& group) { on_group(group, true); };
    for_each_group(strip, nodes.row[above], nodes.row[below], split.whole_cells(), on_whole,
                   on_exact);
    split.visit(nodes, above, below, on_split, on_exact);
  }

  labels_t labels_at(const Group<accumulate_t>& group, int64_t k, const int32_t* output) const {
    const labels_t labels = gather_labels<accumulate_t>(
        strip.rows.row(k), output, static_cast<int32_t>(strip.rows.first_column));
    return group.exact != 0 ? labels_t{} - 1 : labels;
  }

  lanes_t weights_at(int64_t k, const int32_t* output) const {
    return gather(strip.pixel_weight + k * strip.rows.pitch, output,
                  static_cast<int32_t>(strip.rows.first_column));
  }

  // Calls visit(at, k, output, x_lower, x_upper) for every pixel of a patch, column by column, down
  // and up in turn, so that labels change least.
  template <int rows, typename Visit>
  void for_each_pixel(const Patch<accumulate_t>& patch, const int32_t* output,
                      const Visit& visit) const {
    for (int64_t column = 0; column < patch.columns; ++column) {
      const lanes_t x_lower = load_register(patch.column_lower + column * patch.column_pitch);
      const lanes_t x_upper = load_register(patch.column_upper + column * patch.column_pitch);
      for (int i = 0; i < rows; ++i) {
        const int k = column % 2 == 0 ? i : rows - 1 - i;
        visit(column * kMostRows + k, k, output + column * patch.column_pitch, x_lower, x_upper);
      }
    }
  }

  template <int rows, bool squared>
  __attribute__((noinline)) void add_group_sums(const Group<accumulate_t>& group) {
    LabelRuns<accumulate_t> runs(group, nullptr);
    list.known = false;
    // Sum no more than a patch in float: equal terms are all rounded to the same side.
    lanes_t intersection = {}, surprise = {};
    const auto leave = [&](const LabeledLanes<accumulate_t>& lanes) {
      accumulate_t found[kWidth<accumulate_t>];
      store_register(found, intersection);
      lanes.each([&](int lane, int64_t label) {
        sums.intersection[label] += static_cast<double>(found[lane]);
      });
      intersection = lanes.chosen != 0 ? lanes_t{} : intersection;
    };
    for (int64_t phase = 0; phase < group.columns.count; phase += kMostPhases) {
      const int32_t* output;
      const Patch<accumulate_t> patch = patch_of<rows>(strip, group.columns, phase, &output);
      if (patch.columns == 0) {
        continue;
      }
      list_classes(group, patch, list, squared ? kDirect / 2 : kDirect);
      sum_powers<rows>(group, patch, list, of.sum);
      for_each_pixel<rows>(
          patch, output,
          [&](int64_t at, int k, const int32_t* places, const lanes_t& x_lower,
              const lanes_t& x_upper) {
            const labels_t labels = labels_at(group, k, places);
            const auto counts = labels >= 0;
            runs.move_to(labels, leave);
            const lanes_t score =
                runs.score(x_lower, x_upper, patch.row_lower[k], patch.row_upper[k]);
            const lanes_t safe = counts ? of.sum[at] : all_lanes<accumulate_t>(1);
            const lanes_t inverse = counts ? reciprocal(safe) : lanes_t{};
            intersection += exp2_lanes<accumulate_t>(score) * inverse;
            if (work.losses) {
              surprise += counts ? weights_at(k, places) * surprise_of(safe, score) : lanes_t{};
            }
            of.sum[at] = inverse;
            if constexpr (squared) {
              of.squared[at] = inverse * inverse;
            }
          });
      add_probabilities<rows, squared>(group, patch, list, of, probability, squares);
      runs.finish(leave);
      loss += kLn2 * sum_of<accumulate_t>(surprise);
      surprise = lanes_t{};
    }
  }

  // -log2 of a probability; infinite for a masked class, which alone has so low a score.
  static lanes_t surprise_of(const lanes_t& sum, const lanes_t& score) {
    constexpr auto kInfinity = static_cast<accumulate_t>(__builtin_inf());
    const lanes_t found = log2_lanes<accumulate_t>(sum) - score;
    return score < static_cast<accumulate_t>(10 * kFarthest) ? all_lanes(kInfinity) : found;
  }

  template <int rows, bool squared>
  __attribute__((noinline)) void add_group_gradients(const Group<accumulate_t>& group,
                                                     const CornerSums<accumulate_t>& to) {
    const ClassFactors<accumulate_t> factors{gradients.probability, gradients.squared};
    LabelRuns<accumulate_t> runs(group, gradients.intersection);
    OwnGradients<accumulate_t> own;
    list.known = false;
    const auto leave = [&](const LabeledLanes<accumulate_t>& lanes) {
      own.store(to, lanes, group.first);
    };
    for (int64_t phase = 0; phase < group.columns.count; phase += kMostPhases) {
      const int32_t* output;
      const Patch<accumulate_t> patch = patch_of<rows>(strip, group.columns, phase, &output);
      if (patch.columns == 0) {
        continue;
      }
      list_classes(group, patch, list, squared ? kDirect / 2 : kDirect);
      sum_weighted_powers<rows, squared>(group, patch, list, factors, of);
      for_each_pixel<rows>(
          patch, output,
          [&](int64_t at, int k, const int32_t* places, const lanes_t& x_lower,
              const lanes_t& x_upper) {
            const labels_t labels = labels_at(group, k, places);
            const auto counts = labels >= 0;
            runs.move_to(labels, leave);
            const lanes_t score =
                runs.score(x_lower, x_upper, patch.row_lower[k], patch.row_upper[k]);
            const lanes_t safe = counts ? of.sum[at] : all_lanes<accumulate_t>(1);
            const lanes_t inverse = counts ? reciprocal(safe) : lanes_t{};
            lanes_t label_part = runs.label_factor() * (exp2_lanes<accumulate_t>(score) * inverse);
            if (work.losses) {
              label_part -= counts ? gradients.loss * weights_at(k, places) : lanes_t{};
            }
            lanes_t mean = of.plain[at] * inverse + label_part;
            if constexpr (squared) {
              mean += of.squared[at] * (inverse * inverse);
              of.squared[at] = inverse * inverse;
            }
            of.sum[at] = inverse;
            of.plain[at] = -mean * inverse;
            own.add(label_part, patch.row_upper[k] * label_part, x_upper);
          });
      add_weighted_gradients<rows, squared>(group, patch, list, factors, of, to);
      runs.finish(leave);
    }
  }
};

}  // namespace
}  // namespace fcn_ext
