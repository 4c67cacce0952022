// Entry points of test_sigmoid_sums.py.
#include <vector>

#include "arguments.h"
#include "sigmoid_sums/cuda/kernels.cuh"

using namespace fcn_ext;

namespace {

SigmoidSums problem_of(const Geometry* geometry, const PlaneStrides* input_strides,
                       const void* target, int64_t target_type, const PlaneStrides* target_strides,
                       int64_t ignore_index, const double* gamma, int64_t regions) {
  return {geometry->shape(),
          *input_strides,
          {target, static_cast<int>(target_type), *target_strides},
          ignore_index,
          regions != 0,
          gamma != nullptr,
          gamma != nullptr ? *gamma : 0};
}

}  // namespace

extern "C" int sigmoid_sums(int64_t dtype, const Geometry* geometry, const void* input,
                            const PlaneStrides* input_strides, const void* target,
                            int64_t target_type, const PlaneStrides* target_strides,
                            int64_t ignore_index, const double* gamma, int64_t regions,
                            void* sums) {
  const SigmoidSums problem = problem_of(geometry, input_strides, target, target_type,
                                         target_strides, ignore_index, gamma, regions);
  return guarded_for_type(dtype, [=](auto* type) {
    using scalar_t = std::remove_pointer_t<decltype(type)>;
    std::vector<unsigned char> workspace(sigmoid_sums_workspace<scalar_t>(problem), 0xff);
    SigmoidResults<accumulate_of<scalar_t>> results;
    results.sums = static_cast<accumulate_of<scalar_t>*>(sums);
    launch_sigmoid_sums(problem, static_cast<const scalar_t*>(input), results, workspace.data(),
                        nullptr);
  });
}

extern "C" int sigmoid_sums_backward(int64_t dtype, const Geometry* geometry, const void* weights,
                                     int64_t weight_masks, const void* input,
                                     const PlaneStrides* input_strides, const void* target,
                                     int64_t target_type, const PlaneStrides* target_strides,
                                     int64_t ignore_index, const double* gamma, int64_t regions,
                                     void* gradient, const PlaneStrides* gradient_strides,
                                     void* sums) {
  const SigmoidSums problem = problem_of(geometry, input_strides, target, target_type,
                                         target_strides, ignore_index, gamma, regions);
  return guarded_for_type(dtype, [=](auto* type) {
    using scalar_t = std::remove_pointer_t<decltype(type)>;
    using accumulate_t = accumulate_of<scalar_t>;
    std::vector<unsigned char> workspace(
        sums != nullptr ? sigmoid_sums_workspace<scalar_t>(problem) : 0, 0xff);
    launch_sigmoid_sums<scalar_t>(
        problem, static_cast<const scalar_t*>(input),
        {static_cast<accumulate_t*>(sums), static_cast<accumulate_t*>(gradient), *gradient_strides,
         static_cast<const accumulate_t*>(weights), weight_masks},
        workspace.data(), nullptr);
  });
}

extern "C" int weigh_sums(int64_t dtype, const void* sums, const void* weights,
                          int64_t weight_masks, int64_t masks, int64_t focal, void* loss) {
  return guarded_for_type(dtype, [=](auto* type) {
    using accumulate_t = accumulate_of<std::remove_pointer_t<decltype(type)>>;
    launch_weigh_sums(static_cast<const accumulate_t*>(sums),
                      static_cast<const accumulate_t*>(weights), weight_masks, masks, focal != 0,
                      static_cast<accumulate_t*>(loss), nullptr);
  });
}
