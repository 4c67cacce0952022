// Softmax cross-entropy of bilinearly upsampled scores, straight from the coarse scores: the
// full-resolution logits are never stored. What its CPU and CUDA kernels are handed.
//
// With coarse scores z, M = max over classes of z at a node, v = (z - M) * log2(e) <= 0 there,
// "~" for interpolation to a pixel p, and y its label:
//
//     S(p)    = sum over classes of 2^v~_c(p)
//     loss(p) = a_y ln S(p) - ln 2 [(1 - eps) w_y v~_y(p) + eps / C sum over classes of w_c
//     v~_c(p)] a_y     = (1 - eps) w_y + eps / C sum over classes of w_c
//
// with class weights w and label smoothing eps. Interpolation is a convex combination, so M~ bounds
// the scores of its pixel: nothing overflows and no pixel needs a maximum of its own, unless
// neighbouring nodes disagree so much that S vanishes.
#pragma once

#include "bilinear/bilinear.h"
#include "common/labels.h"

namespace fcn_ext {

struct CrossEntropy {
  BilinearShape shape;  // channels = classes; the output is as large as the target
  PlaneStrides input_strides;
  LabelMap target;
  int64_t ignore_index;  // compared with labels as 64-bit integers
  double label_smoothing;
};

}  // namespace fcn_ext
