// Node rows of one mask: widens scores to all columns, and narrows slopes gathered in a wide row to
// nodes. For *kernels.cpp files only (common/cpu/capability.h says why the anonymous namespace).
#pragma once

#include <type_traits>

#include "common/cpu/lanes_math.h"
#include "common/cpu/scratch.h"
#include "sigmoid_sums/cpu/kernels.h"

namespace fcn_ext {
namespace {

constexpr int64_t kPrefetchedLines = 16;  // of a row of nodes

template <typename accumulate_t>
class MaskRows {
  using lanes_t = Register<accumulate_t>;

 public:
  MaskRows(const SigmoidSumsWork& given, Scratch& scratch)
      : work(given),
        lower(static_cast<const accumulate_t*>(given.lower)),
        upper(static_cast<const accumulate_t*>(given.upper)),
        nodes(scratch.take<accumulate_t>(given.x.nodes + 1 + 2 * kWidest) + kWidest - 1),
        to_left(scratch.take<accumulate_t>(of_columns())),
        to_right(scratch.take<accumulate_t>(of_columns())),
        of_left(scratch.take<accumulate_t>(given.x.nodes + 1 + kWidest)),
        of_right(scratch.take<accumulate_t>(given.x.nodes + 1 + kWidest)) {}

  // Takes memory for a wide row. Cells may be read beyond a row's end.
  accumulate_t* take(Scratch& scratch) const {
    return scratch.take<accumulate_t>(work.pitch + kMostSpread);
  }

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

  // Fills wide[column] for padded node row `row`.
  void widen(int64_t row, accumulate_t* wide) const {
    const int64_t columns = work.x.nodes;
    const int64_t of_input = input_row(row);
    if (of_input < 0 || of_input >= work.y.nodes) {
      for (int64_t i = 0; i < work.pitch; i += kWidth<accumulate_t>) {
        store_register(wide + i, lanes_t{});
      }
      return;
    }
    with_elements<accumulate_t>(work.input.data, work.input.element, [&](const auto* data) {
      const auto* from = data + first_node + of_input * work.input.strides.row;
      accumulate_t* const to = nodes + 1;
      by_step(work.input.strides.column, [&](auto step) {
        for (int64_t i = 0; i < columns; ++i) {
          to[i] = load(from[i * step]);
        }
      });
    });
    nodes[0] = work.x.clamp ? nodes[1] : accumulate_t(0);
    nodes[columns + 1] = work.x.clamp ? nodes[columns] : accumulate_t(0);
    by_count(work.stride, [&](auto stride) { widen_cells<stride()>(wide); });
  }

  // Prefetches the scores of padded node row `row`, which are needed next. Inlined, since GCC
  // removes calls of functions that only prefetch.
  __attribute__((always_inline)) void prefetch(int64_t row) const {
    const int64_t of_input = input_row(row);
    if (of_input < 0 || of_input >= work.y.nodes) {
      return;
    }
    const int64_t size = sizeof(accumulate_t) == 8 ? 8 : work.input.element == 0 ? 4 : 2;
    const char* const from = static_cast<const char*>(work.input.data) +
                             (first_node + of_input * work.input.strides.row) * size;
    const int64_t end = work.x.nodes * work.input.strides.column * size;
    for (int64_t at = 0; at < end && at < kPrefetchedLines * 64; at += 64) {
      __builtin_prefetch(from + at);
    }
  }
  // Likewise the gradients of padded node row `row`, which are written next.
  __attribute__((always_inline)) void prefetch_gradient(int64_t row) const {
    if (gradient == nullptr || row < 1 || row > work.y.nodes) {
      return;
    }
    const accumulate_t* const to = gradient + (row - 1) * work.gradient_strides.row;
    const int64_t end = work.x.nodes * work.gradient_strides.column;
    constexpr int64_t kLine = 64 / sizeof(*to);
    for (int64_t at = 0; at < end && at < kPrefetchedLines * kLine; at += kLine) {
      __builtin_prefetch(to + at, 1);
    }
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

  // Writes the gradients of the nodes of padded row `row`, from the slopes of its columns.
  void narrow(int64_t row, const accumulate_t* wide) const {
    const int64_t columns = work.x.nodes;
    if (work.spread != 0) {
      by_count(work.spread, [&](auto count) { spread_and_sum<count()>(wide); });
    } else {
      // Local copies: for all the compiler knows, storing a register may write any member.
      const accumulate_t *const of_lower = lower, *const of_upper = upper;
      accumulate_t *const left = to_left, *const right = to_right;
      for (int64_t i = 0, end = work.pitch; i < end; i += kWidth<accumulate_t>) {
        const lanes_t slopes = load_register(wide + i), share = load_register(of_upper + i);
        store_register(left + i, load_register(of_lower + i) * slopes);
        store_register(right + i, share != 0 ? share * slopes : lanes_t{});
      }
      by_count(work.stride, [&](auto stride) {
        sum_cells<stride()>(to_left, of_left);
        sum_cells<stride()>(to_right, of_right);
      });
    }
    nodes[0] = of_left[0];
    accumulate_t* __restrict const sums = nodes + 1;
    for (int64_t cell = 0; cell < columns; ++cell) {
      sums[cell] = of_right[cell] + of_left[cell + 1];
    }
    nodes[columns + 1] = of_right[columns];
    if (work.x.clamp) {
      nodes[1] += nodes[0];
      nodes[columns] += nodes[columns + 1];
    }
    accumulate_t* __restrict const to = gradient + (row - 1) * work.gradient_strides.row;
    by_step(work.gradient_strides.column, [&](auto step) {
      for (int64_t i = 0; i < columns; ++i) {
        to[i * step] = nodes[i + 1];
      }
    });
  }

 private:
  // The row of the map that padded node row `row` reads; out of range if there is none.
  int64_t input_row(int64_t row) const {
    if (!work.y.clamp) {
      return row - 1;
    }
    return row < 1 ? 0 : row <= work.y.nodes ? row - 1 : work.y.nodes - 1;
  }

  // Calls body(step), a compile-time constant if elements are contiguous.
  template <typename Body>
  static void by_step(int64_t step, const Body& body) {
    if (step == 1) {
      body(std::integral_constant<int64_t, 1>());
    } else {
      body(step);
    }
  }

  // Calls body(count), a compile-time constant; zero for other numbers of columns.
  template <typename Body>
  static void by_count(int64_t count, const Body& body) {
    switch (count) {
      case 2:
        return body(std::integral_constant<int, 2>());
      case 4:
        return body(std::integral_constant<int, 4>());
      case 8:
        return body(std::integral_constant<int, 8>());
      case 16:
        return body(std::integral_constant<int, 16>());
      case 32:
        return body(std::integral_constant<int, 32>());
      default:
        return body(std::integral_constant<int, 0>());
    }
  }

  // The node left of each of consecutive columns of whole cells: from[0] `stride` times, and so on.
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

  // Widens whole cells by their stride, and all other columns by looking up their nodes.
  template <int stride>
  void widen_cells(accumulate_t* wide) const {
    constexpr int64_t kStep = kWidth<accumulate_t>;
    // Local copies: for all the compiler knows, storing a register may write any member.
    const accumulate_t *const of_lower = lower, *const of_upper = upper, *const from = nodes;
    const auto blend = [=](const lanes_t& left, const lanes_t& right, int64_t column) {
      const lanes_t share = load_register(of_upper + column);
      // A weight of zero reads nothing, so that an infinity there does not become NaN.
      const lanes_t of_next = share != 0 ? share * right : lanes_t{};
      store_register(wide + column, load_register(of_lower + column) * left + of_next);
    };
    const auto look_up = [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i += kStep) {
        const int64_t at = i + kStep <= work.pitch ? i : work.pitch - kStep;
        const int32_t *node = work.node + at, left = node[0], right = node[kStep - 1];
        if (left <= right && right - left < kStep) {
          blend(pick(from + left, node, left), pick(from + left + 1, node, left), at);
        } else {  // where scores are shrunk, or at a row's end
          blend(gather(from, node, 0), gather(from, node, -1), at);
        }
      }
    };
    if constexpr (stride == 0) {
      look_up(0, work.pitch);
    } else {
      const int64_t first_whole = work.first_whole, first = work.x.begin[first_whole];
      const int64_t end = work.x.begin[work.end_whole];
      look_up(0, first);
      int64_t i = first;
      for (; i + kStep <= end; i += kStep) {
        const accumulate_t* left = from + first_whole + (i - first) / stride;
        blend(repeated<stride>(left), repeated<stride>(left + 1), i);
      }
      look_up(i, work.pitch);
    }
  }

  // sums[cell] = the sum of the values of its columns.
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
      const int64_t last = work.end_whole - kWidth<accumulate_t>;  // last register of cells
      const accumulate_t* const from = values + work.x.begin[cell] - stride * cell;
      while (cell <= last) {
        store_register(sums + cell, cell_sums<stride>(from + stride * cell));
        const int64_t next = cell + kWidth<accumulate_t>;
        cell = cell < last && next > last ? last : next;
      }
    }
    one_by_one(work.x.nodes + 1);
  }

  // The sums for both nodes of every cell, whose columns are spread out to `count` each.
  template <int count>
  void spread_and_sum(const accumulate_t* wide) const {
    if constexpr (count != 0) {
      const int64_t cells = work.x.nodes + 1;
      const auto* share_left = static_cast<const accumulate_t*>(work.spread_lower);
      const auto* share_right = static_cast<const accumulate_t*>(work.spread_upper);
      constexpr int kLanes = count < kWidth<accumulate_t> ? count : kWidth<accumulate_t>;
      typedef accumulate_t some_t __attribute__((vector_size(kLanes * sizeof(accumulate_t))));
      for (int64_t cell = 0; cell < cells; ++cell) {
        for (int64_t k = 0; k < count; k += kLanes) {
          const int64_t at = cell * count + k;
          some_t slopes, of_one, of_next;
          __builtin_memcpy(&slopes, wide + work.x.begin[cell] + k, sizeof(slopes));
          __builtin_memcpy(&of_one, share_left + at, sizeof(of_one));
          __builtin_memcpy(&of_next, share_right + at, sizeof(of_next));
          of_one = of_one != 0 ? of_one * slopes : some_t{};
          of_next = of_next != 0 ? of_next * slopes : some_t{};
          __builtin_memcpy(to_left + at, &of_one, sizeof(of_one));
          __builtin_memcpy(to_right + at, &of_next, sizeof(of_next));
        }
      }
      for (int64_t cell = 0; cell < cells; cell += kWidth<accumulate_t>) {
        store_register(of_left + cell, cell_sums<count>(to_left + cell * count));
        store_register(of_right + cell, cell_sums<count>(to_right + cell * count));
      }
    }
  }

  // The sums of a register of cells.
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

  // The room that `to_left` needs: for the columns, or for those of cells that are spread out.
  int64_t of_columns() const {
    const int64_t spread = (work.x.nodes + 1 + kWidest) * work.spread;
    return spread > work.pitch ? spread : work.pitch;
  }

  const SigmoidSumsWork& work;
  const accumulate_t* lower;
  const accumulate_t* upper;
  accumulate_t* nodes;    // one row, with a pad at either end
  accumulate_t* to_left;  // what columns add to the nodes beside them
  accumulate_t* to_right;
  accumulate_t* of_left;  // their sums over cells
  accumulate_t* of_right;
  int64_t first_node = 0;  // of the mask, in elements
  accumulate_t* gradient = nullptr;
};

}  // namespace
}  // namespace fcn_ext
