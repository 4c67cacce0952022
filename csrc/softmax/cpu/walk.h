// Walks a unit down its chunk of cell rows, strip by strip: each node row is loaded once, and
// finished when the cell rows on both sides of it are done.
#pragma once

#include "softmax/cpu/nodes.h"
#include "softmax/cpu/strip.h"

namespace fcn_ext {
namespace {

// The node rows above and below the current cell row, alternating between two places (`which`).
template <typename accumulate_t>
struct NodeRows {
  NodeRow<accumulate_t> row[2];

  NodeRows(int64_t classes, int64_t pitch, Scratch& scratch) {
    for (auto& taken : row) {
      taken.scores = scratch.take<accumulate_t>(classes * pitch);
      taken.peak = scratch.take<accumulate_t>(pitch);
      taken.unfit = scratch.take<accumulate_t>(pitch);
    }
  }
};

// What the walk calls of its body:
//   begin(q, which)           padded node row q is loaded: clear what is gathered at it
//   pixels(q, above, below)   strip.rows now names pixel rows of cell row q
//   fold(pad, border)         add what was gathered at a clamped pad to the border's row
//   finish(q, which, partial) padded node row q is complete, but if `partial` for the part that
//                             the next unit adds
template <typename accumulate_t, typename Body>
void walk_strip(Strip<accumulate_t>& strip, const NodeRows<accumulate_t>& nodes, int64_t begin,
                int64_t end, Body& body) {
  const SoftmaxWork& work = strip.work;
  const int64_t last = work.y.nodes;
  const auto load = [&](int64_t q, int which) {
    load_row(strip.input, q, strip.first_cell, strip.cells + 1, strip.pitch, nodes.row[which]);
    body.begin(q, which);
  };
  int above = 0;
  load(begin, above);
  for (int64_t q = begin; q < end; ++q, above = 1 - above) {
    const int below = 1 - above;
    load(q + 1, below);
    for (int64_t row = work.y.begin[q]; row < work.y.begin[q + 1]; row += kMostRows) {
      const int64_t left = work.y.begin[q + 1] - row;
      strip.rows.first_row = row;
      strip.rows.rows = left < kMostRows ? left : kMostRows;
      if (strip.rows.columns > 0) {
        body.pixels(q, above, below);
      }
    }
    if (work.y.clamp && q == 0) {
      body.fold(above, below);
    } else if (work.y.clamp && q == last) {
      body.fold(below, above);
      body.finish(q, above, false);
    } else if (q > 0) {
      body.finish(q, above, false);
    }
  }
  if (end <= last) {
    body.finish(end, above, true);
  }
}

template <typename accumulate_t, typename Body>
void walk_unit(Strip<accumulate_t>& strip, const NodeRows<accumulate_t>& nodes, int64_t unit,
               Body& body) {
  const SoftmaxWork& work = strip.work;
  const int64_t chunk = unit % work.chunks;
  strip.start(unit);
  for (int64_t cell = 0; cell < work.x.nodes + 1; cell += work.strip_cells) {
    strip.move_to(cell);
    walk_strip(strip, nodes, first_cell_row(work, chunk), first_cell_row(work, chunk + 1), body);
  }
}

// For the class Unit(work, scratch) of a loss, which has run(unit): the bytes of scratch that it
// takes, and the loop of its kernel over the units [begin, end).
template <typename Unit, typename Work>
int64_t unit_scratch(const Work& work) {
  Scratch scratch{nullptr};
  Unit unit(work, scratch);
  return scratch.used;
}

template <typename Unit, typename Work>
void run_units(const Work& work, int64_t begin, int64_t end, void* memory) {
  Scratch scratch{static_cast<char*>(memory)};
  Unit unit(work, scratch);
  for (int64_t index = begin; index < end; ++index) {
    unit.run(index);
  }
}

}  // namespace
}  // namespace fcn_ext
