// Widens input rows to the output's columns: the horizontal half of bilinear resampling. For
// forward_kernels.cpp only (common/cpu/capability.h says why the anonymous namespace).
#pragma once

#include "bilinear/cpu/rows.h"

namespace fcn_ext {
namespace {

// One tile of widened rows: its columns, and the cells or nodes they come from.
struct Tile {
  int64_t begin, end;         // output columns
  int64_t first_cell, cells;  // if weights repeat
  int64_t first_node, nodes;  // staged input nodes, including those out of range
  int64_t shift;              // of the first column in a row of whole cells

  Tile(const BilinearWork& work, int64_t begin_, int64_t end_) : begin(begin_), end(end_) {
    const BilinearAxisTable& x = work.x;
    if (work.inner == 1 && x.stride > 0) {
      first_cell = (begin + x.lead) / x.stride;
      cells = (end - 1 + x.lead) / x.stride + 1 - first_cell;
      first_node = first_cell - 1;
      nodes = cells + 1;
      shift = begin + x.lead - first_cell * x.stride;
    } else {
      first_cell = cells = shift = 0;
      first_node = x.node[begin];
      nodes = x.node[end - 1] + 2 - first_node;
    }
  }
};

// staged[k] = input node first_node + k of row y. Beyond a border: zero, or the border's value.
template <typename element_t, typename accumulate_t>
void stage(const BilinearWork& work, const PlaneView<element_t>& input, const Tile& tile, int64_t y,
           accumulate_t* staged) {
  const int64_t size = work.shape.x.input_size;
  const int64_t inner = work.inner;
  const int64_t last = tile.first_node + tile.nodes;
  const int64_t begin = tile.first_node < 0 ? 0 : tile.first_node;
  const int64_t end = last > size ? size : last;
  input.copy(y, begin, end, inner, staged + (begin - tile.first_node) * inner);
  for (int64_t node = tile.first_node; node < last; ++node) {
    if (node >= 0 && node < size) {
      node = end - 1;
      continue;
    }
    for (int64_t c = 0; c < inner; ++c) {
      const int64_t border = ((node < 0 ? 0 : size - 1) - tile.first_node) * inner + c;
      staged[(node - tile.first_node) * inner + c] = work.shape.x.clamp ? staged[border] : 0;
    }
  }
}

// Writes whole lanes, perhaps beyond the last cell.
template <int stride, typename accumulate_t>
void widen_cells(const BilinearAxisTable& x, int64_t cells, const accumulate_t* __restrict staged,
                 accumulate_t* __restrict wide) {
  constexpr int64_t kStep = kLanes<accumulate_t>;
  constexpr int kRepeat = stride < kStep ? stride : kStep;  // lanes per cell in a register
  constexpr int kParts = stride / kRepeat;                  // registers per cell
  constexpr int64_t kCells = kStep / kRepeat;               // cells per register
  Lanes<accumulate_t> lower[kParts], upper[kParts];
  for (int p = 0; p < kParts * kStep; ++p) {
    lower[p / kStep][p % kStep] =
        static_cast<const accumulate_t*>(x.phase_lower_weight)[p % stride];
    upper[p / kStep][p % kStep] =
        static_cast<const accumulate_t*>(x.phase_upper_weight)[p % stride];
  }
  for (int64_t cell = 0; cell < cells; cell += kCells) {
    const Lanes<accumulate_t> a = repeat_lanes<kRepeat>(staged + cell);
    const Lanes<accumulate_t> b = repeat_lanes<kRepeat>(staged + cell + 1);
    for (int part = 0; part < kParts; ++part) {
      store_lanes<false>(wide + cell * stride + part * kStep, lower[part] * a + upper[part] * b);
    }
  }
}

template <typename accumulate_t>
void widen_columns(const BilinearWork& work, const Tile& tile,
                   const accumulate_t* __restrict staged, accumulate_t* __restrict wide) {
  const auto* lower = static_cast<const accumulate_t*>(work.x.lower_weight);
  const auto* upper = static_cast<const accumulate_t*>(work.x.upper_weight);
  const int64_t inner = work.inner;
  for (int64_t column = tile.begin; column < tile.end; ++column) {
    const accumulate_t* a = staged + (work.x.node[column] - tile.first_node) * inner;
    const accumulate_t* b = a + inner;
    if (upper[column] == 0) {
      for (int64_t c = 0; c < inner; ++c) {
        wide[c] = lower[column] * a[c];
      }
    } else {
      for (int64_t c = 0; c < inner; ++c) {
        wide[c] = lower[column] * a[c] + upper[column] * b[c];
      }
    }
    wide += inner;
  }
}

// wide[x] = input row y, widened to the tile's columns; zeros for a row beyond the border.
template <typename element_t, typename accumulate_t>
void widen(const BilinearWork& work, const PlaneView<element_t>& input, const Tile& tile, int64_t y,
           accumulate_t* staged, accumulate_t* wide) {
  if (y < 0 || y >= work.shape.y.input_size) {
    for (int64_t i = 0; i < wide_size(work, tile.end - tile.begin); ++i) {
      wide[i] = 0;
    }
    return;
  }
  stage(work, input, tile, y, staged);
  switch (tile.cells > 0 ? work.x.stride : 0) {
    case 2:
      return widen_cells<2>(work.x, tile.cells, staged, wide);
    case 4:
      return widen_cells<4>(work.x, tile.cells, staged, wide);
    case 8:
      return widen_cells<8>(work.x, tile.cells, staged, wide);
    case 16:
      return widen_cells<16>(work.x, tile.cells, staged, wide);
    case 32:
      return widen_cells<32>(work.x, tile.cells, staged, wide);
    default:
      return widen_columns(work, tile, staged, wide);
  }
}

}  // namespace
}  // namespace fcn_ext
