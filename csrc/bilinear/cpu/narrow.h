// Summed rows narrowed to the input's columns: the horizontal half of the transpose of bilinear
// resampling. For backward_kernels.cpp only (common/cpu/capability.h says why the
// anonymous namespace).
#pragma once

#include "bilinear/cpu/rows.h"
#include "common/cpu/lanes_math.h"

namespace fcn_ext {
namespace {

// The output columns that read input columns [begin, end).
struct Columns {
  int64_t begin, end;
};
Columns readers(const BilinearWork& work, int64_t begin, int64_t end) {
  return {work.x.first[begin], work.x.first[end + 1]};
}

// The weights of the columns of one cell, repeated in a register or spread over several.
template <int stride, typename accumulate_t>
struct CellWeights {
  static constexpr int kLanesInCell = stride < kWidth<accumulate_t> ? stride : kWidth<accumulate_t>;
  static constexpr int kRegisters = stride / kLanesInCell;
  Register<accumulate_t> lower[kRegisters], upper[kRegisters];

  explicit CellWeights(const BilinearAxisTable& x) {
    for (int i = 0; i < kRegisters * kWidth<accumulate_t>; ++i) {
      const int lane = i % kWidth<accumulate_t>;
      lower[i / kWidth<accumulate_t>][lane] =
          static_cast<const accumulate_t*>(x.phase_lower_weight)[i % stride];
      upper[i / kWidth<accumulate_t>][lane] =
          static_cast<const accumulate_t*>(x.phase_upper_weight)[i % stride];
    }
  }
};

// The sums of a register of nodes. Each is the upper node of its own cell and the lower node of the
// next, which starts `stride` later. The products of columns and weights fill `registers`
// registers, from `cells` on; adding neighbors makes them one, in which each lane is a whole cell,
// in order.
template <int registers, int stride, typename accumulate_t>
inline Register<accumulate_t> sum_nodes(const CellWeights<stride, accumulate_t>& weights,
                                        const accumulate_t* cells) {
  constexpr int kRegisters = CellWeights<stride, accumulate_t>::kRegisters;
  if constexpr (registers == 1) {
    Register<accumulate_t> sum = {};
    for (int r = 0; r < kRegisters; ++r) {
      const accumulate_t* columns = cells + r * kWidth<accumulate_t>;
      sum += weights.upper[r] * load_register(columns);
      sum += weights.lower[r] * load_register(columns + stride);
    }
    return sum;
  } else {
    constexpr int kHalf = registers / 2;
    return pair_sums<accumulate_t>(
        sum_nodes<kHalf>(weights, cells),
        sum_nodes<kHalf>(weights, cells + kHalf * kRegisters * kWidth<accumulate_t>));
  }
}

template <typename accumulate_t>
accumulate_t weighted_sum(const accumulate_t* weights, const accumulate_t* columns, int64_t count) {
  accumulate_t sum = 0;
  for (int64_t p = 0; p < count; ++p) {
    sum += weights[p] * columns[p];
  }
  return sum;
}

// Sums input columns [begin, end) over the columns that read them, where weights repeat. `wide`
// starts with the first cell that has columns and is zero before and after them, for one cell and
// for a register of cells. `grad` is zero and has room for whole registers. Prefetches memory from
// `ahead` on meanwhile, so that reading does not pause.
template <int stride, typename accumulate_t>
void narrow_cells(const BilinearWork& work, const Columns& columns, int64_t begin, int64_t end,
                  const accumulate_t* wide, const char* ahead, accumulate_t* grad) {
  using Weights = CellWeights<stride, accumulate_t>;
  const BilinearAxisTable& x = work.x;
  const Weights weights(x);
  const int64_t first_cell = (columns.begin + x.lead) / stride;
  const int64_t end_cell = (columns.end - 1 + x.lead) / stride + 1;
  const int64_t first_node = first_cell - 1 > begin ? first_cell - 1 : begin;
  const int64_t end_node = end_cell < end ? end_cell : end;
  for (int64_t node = first_node; node < end_node; node += kWidth<accumulate_t>) {
    for (int line = 0; line < stride; ++line, ahead += 64) {
      __builtin_prefetch(ahead, 0, 2);
    }
    store_register(grad + node - begin,
                   sum_nodes<Weights::kLanesInCell>(weights, wide + (node - first_cell) * stride));
  }
  // At a clamped border, the whole half cell belongs to the border's node.
  const auto* lower = static_cast<const accumulate_t*>(x.phase_lower_weight);
  const auto* upper = static_cast<const accumulate_t*>(x.phase_upper_weight);
  const int64_t nodes = work.shape.x.input_size;
  if (work.shape.x.clamp && begin == 0 && first_cell == 0) {
    grad[0] += weighted_sum(lower, wide, stride);
  }
  if (work.shape.x.clamp && end == nodes && end_cell == nodes + 1) {
    const accumulate_t* last = wide + (nodes - first_cell) * stride;
    grad[end - 1 - begin] += weighted_sum(upper, last, stride);
  }
}

// narrow_cells() where weights do not repeat, or where `inner` channels are adjacent; `wide` starts
// with the first column.
template <typename accumulate_t>
void narrow_columns(const BilinearWork& work, const Columns& columns, int64_t begin, int64_t end,
                    const accumulate_t* wide, accumulate_t* grad) {
  constexpr int64_t kStep = kLanes<accumulate_t>;
  const auto* lower = static_cast<const accumulate_t*>(work.x.lower_weight);
  const auto* upper = static_cast<const accumulate_t*>(work.x.upper_weight);
  const int64_t inner = work.inner;
  for (int64_t node = begin; node < end; ++node, grad += inner) {
    const int64_t own = work.x.first[node + 1], next = work.x.first[node + 2];
    int64_t first = work.x.first[node];
    while (first < own && upper[first] == 0) {
      ++first;  // not read (0 * inf)
    }
    const accumulate_t* from = wide + (first - columns.begin) * inner;
    if (inner == 1) {
      grad[0] = weighted_sum(upper + first, from, own - first) +
                weighted_sum(lower + own, from + (own - first), next - own);
      continue;
    }
    for (int64_t c = 0; c < inner; c += kStep) {
      const accumulate_t* at = from + c;
      Lanes<accumulate_t> sum = {};
      for (int64_t column = first; column < next; ++column, at += inner) {
        sum += (column < own ? upper[column] : lower[column]) * load_lanes(at);
      }
      store_lanes<false>(grad + c, sum);  // the next node overwrites the excess
    }
  }
}

// stride: of weights that repeat, with one channel; else 0.
template <typename accumulate_t>
void narrow(const BilinearWork& work, const Columns& columns, int64_t begin, int64_t end,
            int64_t stride, const accumulate_t* wide, const char* ahead, accumulate_t* grad) {
  switch (stride) {
    case 2:
      return narrow_cells<2>(work, columns, begin, end, wide, ahead, grad);
    case 4:
      return narrow_cells<4>(work, columns, begin, end, wide, ahead, grad);
    case 8:
      return narrow_cells<8>(work, columns, begin, end, wide, ahead, grad);
    case 16:
      return narrow_cells<16>(work, columns, begin, end, wide, ahead, grad);
    case 32:
      return narrow_cells<32>(work, columns, begin, end, wide, ahead, grad);
    default:
      return narrow_columns(work, columns, begin, end, wide, grad);
  }
}

}  // namespace
}  // namespace fcn_ext
