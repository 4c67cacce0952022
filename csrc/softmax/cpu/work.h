// The input of the CPU softmax engine, made by plan.h: raw pointers and ready-made tables.
//
// With coarse scores z, M = max over classes of z at a node, v = (z - M) * log2(e) <= 0 there, and
// "~" for interpolation to a pixel p, the engine forms
//
//     S(p) = sum over classes of 2^v~_c(p)
//
// and, with a weight a(p) for each pixel, the sum over pixels of a ln S, and its gradient with
// respect to the scores of a node: the sum over the node's pixels of a / S * 2^v~_c times the
// node's share of the pixel. Interpolation is a convex combination, so M~ bounds the scores of its
// pixel: nothing overflows and no pixel needs a maximum of its own, unless neighboring nodes
// disagree so much that S vanishes (exact.h).
#pragma once

#include "cells/cpu/cells.h"

namespace fcn_ext {

// Work is divided into units: one chunk of cell rows of one image, numbered image by image. A unit
// walks down its chunk strip by strip. It touches the node rows from the upper one of its first
// cell row to the lower one of its last. It owns all of them but the last, whose share goes to
// `edge` and is added later.
struct SoftmaxWork {
  BilinearShape shape;  // channels = classes
  ScoreMap input;
  CellAxis y, x;
  int64_t chunks;       // per image
  int64_t strip_cells;  // cells side by side that a unit works on at a time; whole groups
  bool unweighted;      // every pixel that counts weighs one
  bool finite;          // the pixels' weights are finite
  bool ln_sums;         // ln S of every pixel is wanted
  void* gradient;       // in the accumulation type; null if not wanted
  PlaneStrides gradient_strides;
  void* edge;  // [units][classes][nodes]
};

// static: each instruction set has its own copy (common/cpu/capability.h).
static inline int64_t first_cell_row(const SoftmaxWork& work, int64_t chunk) {
  return chunk * (work.y.nodes + 1) / work.chunks;
}

}  // namespace fcn_ext
