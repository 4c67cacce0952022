// Node rows of one mask, widened to all columns, and what of a gradient has gathered in a wide row.
// For *kernels.cpp files only (common/cpu/capability.h says why the anonymous namespace).
#pragma once

#include "common/cpu/lanes_math.h"
#include "common/cpu/scratch.h"
#include "sigmoid_sums/cpu/kernels.h"

namespace fcn_ext {
namespace {

template <typename accumulate_t>
class MaskRows {
  using lanes_t = Register<accumulate_t>;

 public:
  MaskRows(const SigmoidSumsWork& given, Scratch& scratch)
      : work(given),
        lower(static_cast<const accumulate_t*>(given.lower)),
        upper(static_cast<const accumulate_t*>(given.upper)),
        nodes(scratch.take<accumulate_t>(given.x.nodes + 2 + kWidest)),
        to_left(take(scratch)),
        to_right(take(scratch)),
        of_left(scratch.take<accumulate_t>(given.x.nodes + 1 + kWidest)),
        of_right(scratch.take<accumulate_t>(given.x.nodes + 1 + kWidest)) {}

  accumulate_t* take(Scratch& scratch) const { return scratch.take<accumulate_t>(work.pitch); }

  void start(int64_t mask) {
    const int64_t masks = work.problem.shape.channels;
    const PlaneStrides& from = work.input.strides;
    const PlaneStrides& to = work.gradient_strides;
    first_node = mask / masks * from.batch + mask % masks * from.channel;
    if (work.gradient != nullptr) {
      gradient = static_cast<accumulate_t*>(work.gradient) + mask / masks * to.batch +
                 mask % masks * to.channel;
    }
  }

  // wide[column] for padded node row `row`.
  void widen(int64_t row, accumulate_t* wide) const {
    const int64_t columns = work.x.nodes;
    int64_t of_input = row - 1;
    if (work.y.clamp) {
      of_input = of_input < 0 ? 0 : of_input < work.y.nodes ? of_input : work.y.nodes - 1;
    }
    if (of_input < 0 || of_input >= work.y.nodes) {
      for (int64_t i = 0; i < work.pitch; i += kWidth<accumulate_t>) {
        store_register(wide + i, lanes_t{});
      }
      return;
    }
    with_elements<accumulate_t>(work.input.data, work.input.element, [&](const auto* data) {
      const auto* from = data + first_node + of_input * work.input.strides.row;
      for (int64_t i = 0; i < columns; ++i) {
        nodes[i + 1] = load(from[i * work.input.strides.column]);
      }
    });
    nodes[0] = work.x.clamp ? nodes[1] : accumulate_t(0);
    nodes[columns + 1] = work.x.clamp ? nodes[columns] : accumulate_t(0);
    by_stride([&](auto stride) { widen_cells<stride.count>(wide); });
  }

  void clear(accumulate_t* wide) const {
    for (int64_t i = 0; i < work.pitch; i += kWidth<accumulate_t>) {
      store_register(wide + i, lanes_t{});
    }
  }

  void add(const accumulate_t* from, accumulate_t* to) const {
    for (int64_t i = 0; i < work.pitch; i += kWidth<accumulate_t>) {
      store_register(to + i, load_register(to + i) + load_register(from + i));
    }
  }

  // The gradients of the nodes of padded row `row`, from those of its columns.
  void narrow(int64_t row, const accumulate_t* wide) const {
    const int64_t columns = work.x.nodes;
    for (int64_t i = 0; i < work.pitch; i += kWidth<accumulate_t>) {
      const lanes_t slopes = load_register(wide + i), share = load_register(upper + i);
      store_register(to_left + i, load_register(lower + i) * slopes);
      store_register(to_right + i, share != 0 ? share * slopes : lanes_t{});
    }
    by_stride([&](auto stride) {
      sum_cells<stride.count>(to_left, of_left);
      sum_cells<stride.count>(to_right, of_right);
    });
    accumulate_t from_left = 0;
    for (int64_t cell = 0; cell <= columns; ++cell) {
      nodes[cell] = from_left + of_left[cell];
      from_left = of_right[cell];
    }
    nodes[columns + 1] = from_left;
    if (work.x.clamp) {
      nodes[1] += nodes[0];
      nodes[columns] += nodes[columns + 1];
    }
    accumulate_t* const to = gradient + (row - 1) * work.gradient_strides.row;
    for (int64_t i = 0; i < columns; ++i) {
      to[i * work.gradient_strides.column] = nodes[i + 1];
    }
  }

 private:
  template <int number>
  struct Stride {
    static constexpr int count = number;
  };

  // Calls body(Stride<stride>()): a constant, zero where cells are not alike.
  template <typename Body>
  void by_stride(const Body& body) const {
    switch (work.stride) {
      case 2:
        return body(Stride<2>());
      case 4:
        return body(Stride<4>());
      case 8:
        return body(Stride<8>());
      case 16:
        return body(Stride<16>());
      case 32:
        return body(Stride<32>());
      default:
        return body(Stride<0>());
    }
  }

  void blend(const lanes_t& left, const lanes_t& right, int64_t column, accumulate_t* wide) const {
    const lanes_t share = load_register(upper + column);
    // A weight of zero reads nothing: an infinity there does not become NaN.
    const lanes_t of_next = share != 0 ? share * right : lanes_t{};
    store_register(wide + column, load_register(lower + column) * left + of_next);
  }

  // Of consecutive columns of whole cells, the node left of each: from[0] `stride` times, then the
  // next one.
  template <int stride>
  static lanes_t repeated(const accumulate_t* from) {
    if constexpr (sizeof(lanes_t) == sizeof(Lanes<accumulate_t>)) {
      return (lanes_t)repeat_lanes<stride>(from);
    } else {
      lanes_t lanes;
      for (int64_t k = 0; k < kWidth<accumulate_t>; ++k) {
        lanes[k] = from[k / stride];
      }
      return lanes;
    }
  }

  // All columns by a look at which their nodes are, but those of whole cells.
  template <int stride>
  void widen_cells(accumulate_t* wide) const {
    constexpr int64_t kStep = kWidth<accumulate_t>;
    const auto look_up = [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i += kStep) {
        const int64_t at = i + kStep <= work.pitch ? i : work.pitch - kStep;
        blend(gather(nodes, work.node + at, 0), gather(nodes, work.node + at, -1), at, wide);
      }
    };
    if constexpr (stride == 0) {
      look_up(0, work.pitch);
    } else {
      const int64_t first = work.x.begin[work.first_whole];
      const int64_t end = work.x.begin[work.end_whole];
      look_up(0, first);
      int64_t i = first;
      for (; i + kStep <= end; i += kStep) {
        const accumulate_t* left = nodes + work.first_whole + (i - first) / stride;
        blend(repeated<stride>(left), repeated<stride>(left + 1), i, wide);
      }
      look_up(i, work.pitch);
    }
  }

  // sums[cell] = values of its columns, added up.
  template <int stride>
  void sum_cells(const accumulate_t* values, accumulate_t* sums) const {
    int64_t cell = 0;
    const auto one_by_one = [&](int64_t end) {
      for (; cell < end; ++cell) {
        accumulate_t sum = 0;
        for (int64_t o = work.x.begin[cell]; o < work.x.begin[cell + 1]; ++o) {
          sum += values[o];
        }
        sums[cell] = sum;
      }
    };
    if constexpr (stride != 0) {
      one_by_one(work.first_whole);
      const accumulate_t* from = values + work.x.begin[cell];
      for (; cell + kWidth<accumulate_t> <= work.end_whole; cell += kWidth<accumulate_t>) {
        store_register(sums + cell, cell_sums<stride>(from));
        from += stride * kWidth<accumulate_t>;
      }
    }
    one_by_one(work.x.nodes + 1);
  }

  // Of a register of cells.
  template <int stride>
  static lanes_t cell_sums(const accumulate_t* from) {
    if constexpr (stride == 1) {
      return load_register(from);
    } else {
      constexpr int64_t kHalf = stride / 2 * kWidth<accumulate_t>;
      return pair_sums<accumulate_t>(cell_sums<stride / 2>(from),
                                     cell_sums<stride / 2>(from + kHalf));
    }
  }

  const SigmoidSumsWork& work;
  const accumulate_t* lower;
  const accumulate_t* upper;
  accumulate_t* nodes;    // of a row, with a pad at either end
  accumulate_t* to_left;  // what columns add to the nodes beside them
  accumulate_t* to_right;
  accumulate_t* of_left;  // the same of cells
  accumulate_t* of_right;
  int64_t first_node = 0;  // of the mask, in elements
  accumulate_t* gradient = nullptr;
};

}  // namespace
}  // namespace fcn_ext
