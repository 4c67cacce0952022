// The groups of cells in the current pixel rows, and the patches of a group.
#pragma once

#include "softmax/cpu/progressions.h"
#include "softmax/cpu/strip.h"

namespace fcn_ext {
namespace {

// Ones for the cells among [cell, cell + cells) that have a pixel whose weight is infinite or NaN:
// such a weight must not reach a node that the pixel does not read.
template <typename accumulate_t>
Register<accumulate_t> with_infinite_weights(const Strip<accumulate_t>& strip, int64_t cell,
                                             int64_t cells) {
  Register<accumulate_t> found = {};
  for (int64_t lane = 0; lane < cells; ++lane) {
    for (int64_t k = 0; k < strip.rows.rows; ++k) {
      const accumulate_t* weight =
          strip.pixel_weight + k * strip.rows.pitch - strip.rows.first_column;
      for (int64_t x = strip.work.x.begin[cell + lane]; x < strip.work.x.begin[cell + lane + 1];
           ++x) {
        if (weight[x] - weight[x] != 0) {
          found[lane] = 1;
        }
      }
    }
  }
  return found;
}

// The columns of the group that starts with cell `cell` of the map.
template <typename accumulate_t>
GroupColumns<accumulate_t> columns_of(const Strip<accumulate_t>& strip, int64_t cell) {
  const CellAxis& x = strip.work.x;
  return {x.phases,
          x.pitch,
          x.output + cell,
          static_cast<const accumulate_t*>(x.phase_lower) + cell,
          static_cast<const accumulate_t*>(x.phase_upper) + cell,
          1};
}

// For every group of the cells before `end` (local) that has pixels, calls on_group(group, number
// of output columns), then on_exact(group, cell) for its cells that progressions cannot handle.
template <typename accumulate_t, typename OnGroup, typename OnExact>
void for_each_group(const Strip<accumulate_t>& strip, const NodeRow<accumulate_t>& above,
                    const NodeRow<accumulate_t>& below, int64_t end, const OnGroup& on_group,
                    const OnExact& on_exact) {
  constexpr int64_t kStep = kWidth<accumulate_t>;
  const CellAxis& x = strip.work.x;
  for (int64_t first = 0; first < end; first += kStep) {
    const int64_t some = end - first < kStep ? end - first : kStep;
    const int64_t cell = strip.first_cell + first;
    const int64_t columns = x.begin[cell + some] - x.begin[cell];
    if (columns == 0) {
      continue;
    }
    Group<accumulate_t> group{
        above, below, strip.pitch, first, 1, some, columns_of(strip, cell), strip.input.classes,
        {},    false, {}};
    bound_sums(group, strip.work.finite ? Register<accumulate_t>{}
                                        : with_infinite_weights(strip, cell, some));
    on_group(group, columns);
    for (int64_t lane = 0; group.any_exact && lane < some; ++lane) {
      if (group.exact[lane] != 0) {
        on_exact(group, first + lane);
      }
    }
  }
}

// Columns [phase, phase + kMostPhases) of a group, without columns at the end that no lane has.
// Sets `output` to their output indices, [column * column_pitch + lane].
template <int row_count, typename accumulate_t>
Patch<accumulate_t> patch_of(const Strip<accumulate_t>& strip,
                             const GroupColumns<accumulate_t>& of_group, int64_t phase,
                             const int32_t** output) {
  const CellAxis& y = strip.work.y;
  const int64_t at = phase * of_group.pitch;
  const int64_t left = of_group.count - phase;
  *output = of_group.output + at;
  int64_t columns = left < kMostPhases ? left : kMostPhases;
  while (columns > 0 && !any_output<accumulate_t>(*output + (columns - 1) * of_group.pitch)) {
    --columns;
  }
  return {row_count,
          columns,
          static_cast<const accumulate_t*>(y.lower) + strip.rows.first_row,
          static_cast<const accumulate_t*>(y.upper) + strip.rows.first_row,
          of_group.lower + at,
          of_group.upper + at,
          of_group.pitch,
          static_cast<accumulate_t>(y.weight_step),
          static_cast<accumulate_t>(strip.work.x.weight_step),
          static_cast<accumulate_t>(of_group.beyond)};
}

}  // namespace
}  // namespace fcn_ext
