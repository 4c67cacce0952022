// Coarse scores seen cell by cell: shared by the heads' CPU kernels, which read scores at full
// resolution without ever storing them.
#pragma once

#include "bilinear/bilinear.h"

namespace fcn_ext {

// Coarse scores in any layout. element: their type as a number (element_index(), common/types.h).
struct ScoreMap {
  const void* data;
  int element;
  PlaneStrides strides;
};

// One axis as cells. One node is padded beyond either border: with a score of zero, or with the
// border's score (`clamp`), which is what a clamped position reads. Cell q lies between padded
// nodes q and q + 1, which are nodes q - 1 and q; there are nodes + 1 cells. All outputs of a cell
// lie on one line, equally far apart, so that 2^score is a geometric progression along them.
struct CellAxis {
  int64_t nodes, outputs;
  bool clamp;
  const int64_t* begin;      // [nodes + 2]; outputs of cell q are [begin[q], begin[q + 1])
  const double* upper_part;  // [outputs]: weight of the cell's upper node times `whole`
  double whole;              // both are integers
  const void* lower;         // [outputs], in the accumulation type
  const void* upper;
  double weight_step;  // how much the upper node's weight grows from one output to the next
  bool on_nodes;       // whether an output may lie on a node, with an upper weight of zero
  // The outputs by phase within their cell, [phase * pitch + q], for x only. A cell that the border
  // cuts off, or that has fewer outputs than others, lacks some: -1. Their weights are tabulated
  // all the same.
  int64_t phases, pitch;
  const int32_t* output;
  const void* phase_lower;
  const void* phase_upper;
};

}  // namespace fcn_ext
