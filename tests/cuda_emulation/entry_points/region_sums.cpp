// Entry points of region_sums_cases.py.
#include "arguments.h"
#include "region_sums/cuda/kernels.cuh"
#include "workspace.h"

namespace {

using namespace fcn_ext;

// What Python passes as int64.
struct RegionProblem {
  int64_t dtype;
  Geometry geometry;
  PlaneStrides input_strides;
  int64_t target_type, target_strides[3], ignore_index;
  PlaneStrides gradient_strides;
  int64_t squared;

  RegionSums region_sums(const void* target) const {
    return {geometry.shape(),
            input_strides,
            {target,
             static_cast<int>(target_type),
             {target_strides[0], target_strides[1], target_strides[2]}},
            ignore_index};
  }
};

}  // namespace

// The side of the tile kernels' cells; 0 if the shape goes to the direct kernels.
extern "C" int region_sums_side(const RegionProblem* problem, int64_t* side) {
  return guarded_for_type(problem->dtype, [=](auto* type) {
    using scalar_t = std::remove_pointer_t<decltype(type)>;
    *side =
        region_sums::grid_of<scalar_t>(problem->region_sums(nullptr), problem->squared != 0).side;
  });
}

extern "C" int region_sums(const RegionProblem* problem, const void* input, const void* target,
                           const void* weight, void* sums, void* losses) {
  return guarded_for_type(problem->dtype, [=](auto* type) {
    using scalar_t = std::remove_pointer_t<decltype(type)>;
    const RegionSums plain = problem->region_sums(target);
    const Workspace workspace(region_sums_workspace<scalar_t>(plain, problem->squared != 0));
    launch_region_sums<scalar_t>(plain, problem->squared != 0, static_cast<const scalar_t*>(input),
                                 static_cast<const accumulate_of<scalar_t>*>(weight),
                                 static_cast<double*>(sums), static_cast<double*>(losses),
                                 workspace.begin(), nullptr);
    workspace.check();
  });
}

extern "C" int region_sums_backward(const RegionProblem* problem, const void* grad_sums,
                                    const void* grad_losses, const void* input, const void* target,
                                    const void* weight, void* gradient) {
  return guarded_for_type(problem->dtype, [=](auto* type) {
    using scalar_t = std::remove_pointer_t<decltype(type)>;
    using accumulate_t = accumulate_of<scalar_t>;
    const RegionSums plain = problem->region_sums(target);
    const Workspace workspace(
        region_sums_backward_workspace<scalar_t>(plain, problem->squared != 0));
    launch_region_sums_backward<scalar_t>(
        plain, problem->squared != 0, static_cast<const accumulate_t*>(grad_sums),
        static_cast<const accumulate_t*>(grad_losses), static_cast<const scalar_t*>(input),
        static_cast<const accumulate_t*>(weight), static_cast<accumulate_t*>(gradient),
        problem->gradient_strides, workspace.begin(), nullptr);
    workspace.check();
  });
}
