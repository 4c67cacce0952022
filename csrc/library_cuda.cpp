// The operators of csrc/library.cpp on CUDA.
#include "argmax/argmax_operators.h"
#include "bilinear/bilinear_operators.h"
#include "confusion_matrix/confusion_matrix_operators.h"
#include "cross_entropy/cross_entropy_operators.h"
#include "region_sums/region_sums_operators.h"
#include "sigmoid_sums/sigmoid_sums_operators.h"

STABLE_TORCH_LIBRARY_IMPL(fcn_ext, CUDA, m) {
  fcn_ext::BilinearOperators<fcn_ext::BilinearCuda>::implement(m);
  fcn_ext::CrossEntropyOperators<fcn_ext::CrossEntropyCuda>::implement(m);
  fcn_ext::RegionSumsOperators<fcn_ext::RegionSumsCuda>::implement(m);
  fcn_ext::ArgmaxOperators<fcn_ext::ArgmaxCuda>::implement(m);
  fcn_ext::ConfusionMatrixOperators<fcn_ext::ConfusionMatrixCuda>::implement(m);
  fcn_ext::SigmoidSumsOperators<fcn_ext::SigmoidSumsCuda>::implement(m);
}
