// The sums over classes of 2^score at the pixels of a group.
//
// Inside a cell, 2^score of a class is a geometric progression down each column, whose first value
// and ratio are geometric progressions from column to column. Four powers of two give them all.
#pragma once

#include "softmax/cpu/group.h"

namespace fcn_ext {
namespace {

constexpr int64_t kMostPhases = 8;  // columns before the progression starts afresh

// A class is left out of a group if all such classes together add less than 2^kNegligible of the
// smallest sum, which is below the sum's precision. Below 2^kDirect, progressions would leave the
// normal numbers: such a class takes a power of two per pixel. (Where powers are squared, below
// half of it.)
template <typename accumulate_t>
constexpr accumulate_t kNegligible = sizeof(accumulate_t) == 8 ? -61 : -32;
constexpr double kDirect = -100;

template <typename accumulate_t>
struct Progression {
  Register<accumulate_t> value, ratio;            // first column: value at the top, ratio of rows
  Register<accumulate_t> value_step, ratio_step;  // factors of both from column to column
};

// Some rows and columns (phases) of the cells of a group.
template <typename accumulate_t>
struct Patch {
  int64_t rows, columns;
  const accumulate_t* row_lower;     // [rows]
  const accumulate_t* row_upper;     // [rows]
  const accumulate_t* column_lower;  // [column * column_pitch + lane]
  const accumulate_t* column_upper;
  int64_t column_pitch;
  accumulate_t row_step, column_step;
  accumulate_t beyond;  // the most columns beyond a cell that lacks some
};

// The classes of a patch that are not negligible, and their progressions.
template <typename accumulate_t>
struct ClassList {
  int32_t* geometric;  // [num_geometric] classes
  int32_t* direct;     // [num_direct]
  int64_t num_geometric, num_direct;
  bool known;  // for all patches of a group between the same rows, which differ in where they start
  Progression<accumulate_t>* progressions;  // [num_geometric]
  Register<accumulate_t>* running;          // [num_geometric][2]: value, ratio of the next column
};

// Starts the progressions of a class in a patch.
template <typename accumulate_t>
inline void start_progression(const Corners<accumulate_t>& corner, const Patch<accumulate_t>& patch,
                              int64_t place, const ClassList<accumulate_t>& list) {
  using lanes_t = Register<accumulate_t>;
  const lanes_t x_lower = load_register(patch.column_lower);
  const lanes_t x_upper = load_register(patch.column_upper);
  const lanes_t above = x_lower * corner.above_left + x_upper * corner.above_right;
  const lanes_t below = x_lower * corner.below_left + x_upper * corner.below_right;
  Progression<accumulate_t>& progression = list.progressions[place];
  progression.value =
      exp2_lanes<accumulate_t>(patch.row_lower[0] * above + patch.row_upper[0] * below);
  progression.ratio = exp2_lanes<accumulate_t>(patch.row_step * (below - above));
  list.running[2 * place] = progression.value;
  list.running[2 * place + 1] = progression.ratio;
}

// Lists the classes of a patch. list.known is false before a group's first patch between these
// rows; later patches mostly have the same list.
template <typename accumulate_t>
void list_classes(const Group<accumulate_t>& group, const Patch<accumulate_t>& patch,
                  ClassList<accumulate_t>& list, double deepest = kDirect) {
  using lanes_t = Register<accumulate_t>;
  if (list.known) {
    for (int64_t j = 0; j < list.num_geometric; ++j) {
      start_progression(group.corners(list.geometric[j]), patch, j, list);
    }
    return;
  }
  constexpr auto kLowest = static_cast<accumulate_t>(kDirect);
  // Ratios must stay finite up to the columns beyond a cell that lacks some. At strides below two,
  // that requires corners that are less far apart.
  const accumulate_t reach = patch.row_step * (1 + 2 * patch.column_step * patch.beyond);
  const accumulate_t floor = static_cast<accumulate_t>(deepest) / (reach > 1 ? reach : 1);
  const accumulate_t spread =
      static_cast<accumulate_t>(__builtin_clzll(1) - __builtin_clzll(group.num_classes) + 1);
  const lanes_t negligible = group.least + (kNegligible<accumulate_t> - spread);
  const accumulate_t y_lower = patch.row_lower[0], y_upper = patch.row_upper[0];
  list.num_geometric = list.num_direct = 0;
  list.known = true;
  for (int64_t c = 0; c < group.num_classes; ++c) {
    Corners<accumulate_t> corner = group.corners(c);
    const auto matters = highest(corner) >= negligible;
    if (!any_lane(matters)) {
      continue;
    }
    const auto deep = lowest(corner) < floor;
    if (any_lane(deep)) {
      if (any_lane(deep & matters)) {
        list.direct[list.num_direct++] = static_cast<int32_t>(c);
        continue;
      }
      // In lanes where the class does not matter, use a constant that is as small.
      list.known = false;
      corner.above_left = matters ? corner.above_left : all_lanes(kLowest);
      corner.above_right = matters ? corner.above_right : all_lanes(kLowest);
      corner.below_left = matters ? corner.below_left : all_lanes(kLowest);
      corner.below_right = matters ? corner.below_right : all_lanes(kLowest);
    }
    const lanes_t above_step = corner.above_right - corner.above_left;
    const lanes_t below_step = corner.below_right - corner.below_left;
    const accumulate_t cross = patch.row_step * patch.column_step;
    start_progression(corner, patch, list.num_geometric, list);
    Progression<accumulate_t>& progression = list.progressions[list.num_geometric];
    progression.value_step =
        exp2_lanes<accumulate_t>(patch.column_step * (y_lower * above_step + y_upper * below_step));
    progression.ratio_step = exp2_lanes<accumulate_t>(cross * (below_step - above_step));
    list.geometric[list.num_geometric++] = static_cast<int32_t>(c);
  }
}

// Calls visit(row, power) with 2^score of a direct class in one column.
template <int rows, typename accumulate_t, typename Visit>
inline void direct_column(const Corners<accumulate_t>& corner, const Patch<accumulate_t>& patch,
                          int64_t column, const Visit& visit) {
  using lanes_t = Register<accumulate_t>;
  const lanes_t x_lower = load_register(patch.column_lower + column * patch.column_pitch);
  const lanes_t x_upper = load_register(patch.column_upper + column * patch.column_pitch);
  const lanes_t above = x_lower * corner.above_left + x_upper * corner.above_right;
  const lanes_t below = x_lower * corner.below_left + x_upper * corner.below_right;
  for (int k = 0; k < rows; ++k) {
    visit(k, exp2_lanes<accumulate_t>(patch.row_lower[k] * above + patch.row_upper[k] * below));
  }
}

// sums[column * kMostRows + row] = sum over classes of 2^score. Computes two columns side by side,
// whose progressions are independent, so `sums` has room for an even number of columns.
template <int rows, typename accumulate_t>
void sum_powers(const Group<accumulate_t>& group, const Patch<accumulate_t>& patch,
                const ClassList<accumulate_t>& list, Register<accumulate_t>* sums) {
  using lanes_t = Register<accumulate_t>;
  for (int64_t column = 0; column < patch.columns; column += 2) {
    lanes_t first[rows] = {}, second[rows] = {};
    for (int64_t j = 0; j < list.num_geometric; ++j) {
      const Progression<accumulate_t>& progression = list.progressions[j];
      lanes_t a = list.running[2 * j], a_ratio = list.running[2 * j + 1];
      lanes_t b = a * progression.value_step, b_ratio = a_ratio * progression.ratio_step;
      list.running[2 * j] = b * progression.value_step;
      list.running[2 * j + 1] = b_ratio * progression.ratio_step;
#pragma GCC unroll 8
      for (int k = 0; k < rows; ++k) {
        first[k] += a;
        second[k] += b;
        if (k + 1 < rows) {
          a *= a_ratio;
          b *= b_ratio;
        }
      }
    }
    for (int k = 0; k < rows; ++k) {
      sums[column * kMostRows + k] = first[k];
      sums[(column + 1) * kMostRows + k] = second[k];
    }
  }
  for (int64_t j = 0; j < list.num_direct; ++j) {
    const Corners<accumulate_t> corner = group.corners(list.direct[j]);
    for (int64_t column = 0; column < patch.columns; ++column) {
      direct_column<rows>(corner, patch, column, [&](int k, const lanes_t& power) {
        sums[column * kMostRows + k] += power;
      });
    }
  }
}

}  // namespace
}  // namespace fcn_ext
