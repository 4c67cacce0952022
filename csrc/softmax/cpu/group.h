// A group of cells side by side, one per lane, and which of them progressions can handle.
#pragma once

#include "softmax/cpu/nodes.h"

namespace fcn_ext {
namespace {

// A cell whose sum might fall below 2^kExact, because its corners have different best classes, is
// computed in double with the true maximum of every pixel (exact.h).
constexpr double kExact = -40;

// A class's scores at the corners; lanes = cells.
template <typename accumulate_t>
struct Corners {
  Register<accumulate_t> above_left, above_right, below_left, below_right;
};

// The columns of a group: in each, every lane has a pixel or none.
template <typename accumulate_t>
struct GroupColumns {
  int64_t count;
  int64_t pitch;
  const int32_t* output;  // [column * pitch + lane]: index of the output, negative if there is none
  const accumulate_t* lower;
  const accumulate_t* upper;
  int64_t beyond;  // the most columns that a lane lacks at its end
};

// A group's node rows, columns and bounds. Classes are numbered as in the input.
template <typename accumulate_t>
struct Group {
  using lanes_t = Register<accumulate_t>;
  const NodeRow<accumulate_t>& above;
  const NodeRow<accumulate_t>& below;
  int64_t pitch;  // of node rows
  int64_t first;  // index of the first lane's left node in a node row
  int64_t next;   // from a lane's left node to its right node
  int64_t lanes;  // at most a register's; further lanes are idle
  GroupColumns<accumulate_t> columns;
  int64_t num_classes;
  // Ones in the lanes of cells left to the exact kernel, whose corners read as zero.
  lanes_t exact;
  bool any_exact;
  lanes_t least;  // 2^least bounds the sum of every pixel of the cell from below

  Corners<accumulate_t> corners(int64_t c) const {
    const accumulate_t* a = above.scores + c * pitch + first;
    const accumulate_t* b = below.scores + c * pitch + first;
    Corners<accumulate_t> corner = {load_register(a), load_register(a + next), load_register(b),
                                    load_register(b + next)};
    if (any_exact) {
      corner.above_left = exact != 0 ? lanes_t{} : corner.above_left;
      corner.above_right = exact != 0 ? lanes_t{} : corner.above_right;
      corner.below_left = exact != 0 ? lanes_t{} : corner.below_left;
      corner.below_right = exact != 0 ? lanes_t{} : corner.below_right;
    }
    return corner;
  }
};

template <typename accumulate_t>
Register<accumulate_t> lowest(const Corners<accumulate_t>& corner) {
  return smaller(smaller(corner.above_left, corner.above_right),
                 smaller(corner.below_left, corner.below_right));
}
template <typename accumulate_t>
Register<accumulate_t> highest(const Corners<accumulate_t>& corner) {
  return larger(larger(corner.above_left, corner.above_right),
                larger(corner.below_left, corner.below_right));
}

// Finds `least`, and with it the cells that need the exact kernel. `apart` has ones for cells that
// need it whatever their scores.
template <typename accumulate_t>
void bound_sums(Group<accumulate_t>& group, const Register<accumulate_t>& apart) {
  using lanes_t = Register<accumulate_t>;
  group.any_exact = false;
  lanes_t least = all_lanes(static_cast<accumulate_t>(kMasked));
  for (int64_t c = 0; c < group.num_classes; ++c) {
    least = larger(lowest(group.corners(c)), least);
  }
  const accumulate_t* a = group.above.unfit + group.first;
  const accumulate_t* b = group.below.unfit + group.first;
  const lanes_t unfit = load_register(a) + load_register(a + group.next) + load_register(b) +
                        load_register(b + group.next);
  group.exact = (least < static_cast<accumulate_t>(kExact)) | (unfit != 0) | (apart != 0)
                    ? all_lanes<accumulate_t>(1)
                    : lanes_t{};
  lanes_t idle = group.exact;
  for (int64_t lane = group.lanes; lane < kWidth<accumulate_t>; ++lane) {
    group.exact[lane] = 0;
    idle[lane] = 1;
  }
  group.any_exact = any_lane(group.exact != 0);
  // No class matters in lanes whose sum nobody reads.
  group.least = idle != 0 ? all_lanes(static_cast<accumulate_t>(-kMasked)) : least;
}

}  // namespace
}  // namespace fcn_ext
