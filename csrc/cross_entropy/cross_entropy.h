// Softmax cross-entropy of bilinearly upsampled scores, straight from the coarse scores: the
// full-resolution logits are never stored. This is the input of its CPU and CUDA kernels.
//
// With v~ and S of the softmax engine (softmax/cpu/work.h), class weights w, label smoothing eps
// and the label y of a pixel p:
//
//     loss = a_y ln S - ln 2 (b_y v~_y + sum over classes of s_c v~_c)
//     a_y  = b_y + sum over classes of s_c
//     b_c  = (1 - eps) w_c
//     s_c  = eps / C * w_c
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
