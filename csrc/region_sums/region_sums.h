// Sums over the pixels of an image of each class's softmax probability at full size, straight from
// the coarse scores: what Dice, Jaccard, Tversky and their kin are made of. This is the input of
// the CPU and CUDA kernels.
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
// and, with A, B, D and E the gradients of probability, intersection, squared and loss, the
// gradient of the full-size score of class k is
//
//     P_k (A_k - s) + 2 D_k P_k^2 + [y = k] (B_y P_y - E w_y),
//     s = sum over c of (A_c P_c + 2 D_c P_c^2) + B_y P_y - E w_y
//
// which is gathered at the nodes like any gradient.
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

// Rows of the result `sums` (4, N, C); the last one is there only if asked for.
enum RegionSum { kProbability, kIntersection, kCount, kSquared };
// Rows of the result `losses` (2, N).
enum RegionLoss { kLoss, kTotalWeight };

}  // namespace region_sums

}  // namespace fcn_ext
