// Coarse scores seen cell by cell: what the CPU kernels of the heads share, which read scores at
// full resolution without ever storing them so.
#pragma once

#include "bilinear/bilinear.h"

namespace fcn_ext {

// Coarse scores in any layout. element: their type's number (element_index(), common/types.h).
struct ScoreMap {
  const void* data;
  int element;
  PlaneStrides strides;
};

// One axis as cells. Nodes are padded by one beyond either border: zero scores, or (`clamp`) the
// border's scores again, which is what a clamped position reads. Cell q lies between padded nodes q
// and q + 1, which are nodes q - 1 and q; there are nodes + 1 of them. All its outputs lie on one
// line, equally far apart, so that 2^score is a geometric progression along them.
struct CellAxis {
  int64_t nodes, outputs;
  bool clamp;
  const int64_t* begin;      // [nodes + 2]; outputs of cell q are [begin[q], begin[q + 1])
  const double* upper_part;  // [outputs]: weight of the cell's upper node times `whole`
  double whole;              // integers, both
  const void* lower;         // [outputs], in the accumulation type
  const void* upper;
  double weight_step;  // of the upper node, from one output to the next
  bool on_nodes;       // some output lies on a node, so that its upper weight is zero
  // The outputs again, by phase within their cell: [phase * pitch + q], for x only. A cell that is
  // cut by the border or has fewer outputs than others lacks some: -1. Weights go on regardless.
  int64_t phases, pitch;
  const int32_t* output;
  const void* phase_lower;
  const void* phase_upper;
};

}  // namespace fcn_ext
