// Sums over the pixels of an image, for each class, of its softmax probability at full size: what
// Dice, Jaccard, Tversky and their kin are made of. Straight from the coarse scores. What the CPU
// and CUDA kernels are handed.
//
// With P_c(p) the probability of class c at pixel p, y(p) its label, and sums over the pixels of an
// image that are not void:
//
//     probability_c  = sum of P_c
//     intersection_c = sum of P_c [y = c]
//     count_c        = sum of [y = c]
//     squared_c      = sum of P_c^2
//     loss           = sum of w_y * -ln P_y,  total_weight = sum of w_y
//
// and for gradients A, B, D (of squared) and E (of loss) by these, the gradient by the full-size
// score of class k is
//
//     P_k (A_k - s) + 2 D_k P_k^2 + [y = k] (B_y P_y - E w_y),
//     s = sum over c of (A_c P_c + 2 D_c P_c^2) + B_y P_y - E w_y
//
// which is gathered at the nodes as any gradient is.
#pragma once

#include "bilinear/bilinear.h"
#include "common/labels.h"

namespace fcn_ext {

struct RegionSums {
  BilinearShape shape;  // channels = classes; the output is as large as the target
  PlaneStrides input_strides;
  LabelMap target;
  int64_t ignore_index;  // compared with labels as 64-bit integers
};

namespace region_sums {

// Rows of a result `sums` (4, N, C), of which the last is there if asked for.
enum RegionSum { kProbability, kIntersection, kCount, kSquared };
// Rows of a result `losses` (2, N).
enum RegionLoss { kLoss, kTotalWeight };

}  // namespace region_sums

}  // namespace fcn_ext
