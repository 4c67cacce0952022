// The last cells of a strip, if they fill no more than half a register: each is spread over several
// lanes, with a part of its columns in each. A map of 16 nodes has 17 cells; the last one would
// otherwise cost as much as all the others.
#pragma once

#include "softmax/cpu/groups.h"
#include "softmax/cpu/node_gradients.h"
#include "softmax/cpu/walk.h"

namespace fcn_ext {
namespace {

template <typename accumulate_t>
class SplitCells {
  static constexpr int64_t kStep = kWidth<accumulate_t>;

 public:
  SplitCells(const Strip<accumulate_t>& given, Scratch& scratch) : strip(given) {
    const int64_t classes = strip.work.shape.channels, phases = strip.work.x.phases;
    for (auto& row : rows) {
      row = {scratch.take<accumulate_t>(2 * classes * kStep), nullptr,
             scratch.take<accumulate_t>(2 * kStep)};
    }
    for (auto& sum : sums) {
      const int64_t size = strip.wants_gradient() ? classes * kStep : 0;
      sum.left = scratch.take<accumulate_t>(size);
      sum.right = scratch.take<accumulate_t>(size);
    }
    output = scratch.take<int32_t>(phases * kStep);
    lower = scratch.take<accumulate_t>(phases * kStep);
    upper = scratch.take<accumulate_t>(phases * kStep);
  }

  // Spreads a loaded node row, `which` of two, over the lanes: the nodes beside these cells.
  void load(const NodeRow<accumulate_t>& row, int which) {
    if (strip.first_cell != of_strip) {
      start();
    }
    if (cells == 0) {
      return;
    }
    const auto spread = [&](const accumulate_t* from, accumulate_t* to) {
      store_register(to, pick(from + first, cell_of_lane, 0));
      store_register(to + kStep, pick(from + first + 1, cell_of_lane, 0));
    };
    const int64_t classes = strip.input.classes;
    for (int64_t c = 0; c < classes; ++c) {
      spread(row.scores + c * strip.pitch, rows[which].scores + 2 * c * kStep);
    }
    spread(row.unfit, rows[which].unfit);
    for (int64_t i = 0; strip.wants_gradient() && i < classes * kStep; i += kStep) {
      store_register(sums[which].left + i, Register<accumulate_t>{});
      store_register(sums[which].right + i, Register<accumulate_t>{});
    }
  }

  // The number of cells before the split ones, which fill whole registers.
  int64_t whole_cells() const { return cells != 0 ? first : strip.cells; }

  // Like for_each_group, for these cells, between node rows `above` and `below` (which: 0 or 1).
  template <typename OnGroup, typename OnExact>
  void visit(const NodeRows<accumulate_t>& nodes, int above, int below, const OnGroup& on_group,
             const OnExact& on_exact) const {
    if (cells == 0) {
      return;
    }
    const int64_t cell = strip.first_cell + first;
    Register<accumulate_t> apart = {};
    if (!strip.work.finite) {
      const Register<accumulate_t> found = with_infinite_weights(strip, cell, cells);
      for (int64_t lane = 0; lane < kStep; ++lane) {
        apart[lane] = found[cell_of_lane[lane]];
      }
    }
    const GroupColumns<accumulate_t> of_lanes{columns, kStep, output, lower, upper, columns};
    Group<accumulate_t> group{rows[above], rows[below],         2 * kStep, 0,     kStep, kStep,
                              of_lanes,    strip.input.classes, {},        false, {}};
    bound_sums(group, apart);
    on_group(group);
    const Group<accumulate_t> unsplit{
        nodes.row[above],        nodes.row[below],    strip.pitch, first, 1, cells,
        columns_of(strip, cell), strip.input.classes, {},          true,  {}};
    for (int64_t i = 0; group.any_exact && i < cells; ++i) {
      if (group.exact[i] != 0) {
        on_exact(unsplit, first + i);
      }
    }
  }

  // Where the gradients of the group gather.
  CornerSums<accumulate_t> corner_sums(int above, int below) const {
    return {sums[above].left, sums[above].right, sums[below].left, sums[below].right, kStep};
  }

  // Adds what was gathered at a node row to the sums of its cells.
  void join(int which, const NodeSums<accumulate_t>& to) const {
    for (int64_t c = 0; cells != 0 && strip.wants_gradient() && c < strip.input.classes; ++c) {
      join_lanes(sums[which].left + c * kStep, to.left + c * strip.pitch + first);
      join_lanes(sums[which].right + c * kStep, to.right + c * strip.pitch + first);
    }
  }

 private:
  const Strip<accumulate_t>& strip;
  int64_t of_strip = -1;
  int64_t first = 0, cells = 0;    // local number of the first cell; no cells: nothing is split
  int64_t period = 1;              // lane part * period + i has a part of cell first + i
  int64_t columns = 0;             // per lane
  int32_t cell_of_lane[kStep];     // counted from the first split cell
  NodeRow<accumulate_t> rows[2];   // scores: [c][left, right][lane]
  NodeSums<accumulate_t> sums[2];  // [c][lane]
  int32_t* output;                 // [column][lane], as in CellAxis
  accumulate_t* lower;
  accumulate_t* upper;

  void start() {
    const CellAxis& x = strip.work.x;
    of_strip = strip.first_cell;
    cells = strip.cells % kStep;
    first = strip.cells - cells;
    int64_t begin = x.phases, end = 0;  // the phases that these cells have
    for (int64_t phase = 0; phase < x.phases; ++phase) {
      for (int64_t i = 0; i < cells; ++i) {
        if (x.output[phase * x.pitch + strip.first_cell + first + i] >= 0) {
          begin = phase < begin ? phase : begin;
          end = phase + 1;
        }
      }
    }
    for (period = 1; period < cells; period *= 2) {
    }
    const int64_t parts = kStep / period;
    columns = (end - begin + parts - 1) / parts;
    if (end - begin < columns + 2) {  // splitting would save next to nothing
      cells = 0;
    }
    for (int64_t lane = 0; cells != 0 && lane < kStep; ++lane) {
      const int64_t i = lane % period < cells ? lane % period : cells - 1;
      const int64_t own = begin + lane / period * columns;
      cell_of_lane[lane] = static_cast<int32_t>(i);
      for (int64_t column = 0; column < columns; ++column) {
        // A lane without pixels uses the first columns.
        const int64_t phase = own < end ? own + column : begin + column;
        const int64_t known = phase < x.phases ? phase : x.phases - 1;
        const int64_t from = known * x.pitch + strip.first_cell + first + i;
        const int64_t at = column * kStep + lane;
        const bool absent = own >= end || phase >= end || i != lane % period;
        output[at] = absent ? -1 : x.output[from];
        lower[at] = static_cast<const accumulate_t*>(x.phase_lower)[from];
        upper[at] = static_cast<const accumulate_t*>(x.phase_upper)[from];
      }
    }
  }

  void join_lanes(const accumulate_t* from, accumulate_t* to) const {
    accumulate_t found[kStep];
    store_register(found, load_register(from));
    for (int64_t width = kStep / 2; width >= period; width /= 2) {
      for (int64_t i = 0; i < width; ++i) {
        found[i] += found[i + width];
      }
    }
    for (int64_t i = 0; i < cells; ++i) {
      to[i] += found[i];
    }
  }
};

}  // namespace
}  // namespace fcn_ext
