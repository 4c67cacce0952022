// Entry points of cross_entropy_cases.py.
#include "arguments.h"
#include "cross_entropy/cuda/kernels.cuh"
#include "workspace.h"

namespace {

using namespace fcn_ext;

// What Python passes as int64.
struct Problem {
  int64_t dtype;
  Geometry geometry;
  PlaneStrides input_strides;
  int64_t target_type, target_strides[3], ignore_index;
  PlaneStrides gradient_strides;

  CrossEntropy cross_entropy(const void* target, double label_smoothing) const {
    return {geometry.shape(),
            input_strides,
            {target,
             static_cast<int>(target_type),
             {target_strides[0], target_strides[1], target_strides[2]}},
            ignore_index,
            label_smoothing};
  }
};

}  // namespace

// The side of the tile kernel's cells; 0 if the shape goes to the direct kernels.
extern "C" int cross_entropy_side(const Problem* problem, int64_t* side) {
  return guarded_for_type(problem->dtype, [=](auto* type) {
    using scalar_t = std::remove_pointer_t<decltype(type)>;
    *side = cross_entropy::grid_of<scalar_t>(problem->cross_entropy(nullptr, 0)).side;
  });
}

extern "C" int cross_entropy(const Problem* problem, const double* label_smoothing, int64_t mean,
                             const void* input, const void* target, const void* weight, void* loss,
                             void* total_weight, void* gradient) {
  return guarded_for_type(problem->dtype, [=](auto* type) {
    using scalar_t = std::remove_pointer_t<decltype(type)>;
    using accumulate_t = accumulate_of<scalar_t>;
    const CrossEntropy plain = problem->cross_entropy(target, *label_smoothing);
    const Workspace workspace(cross_entropy_workspace<scalar_t>(plain, gradient != nullptr));
    launch_cross_entropy<scalar_t>(
        plain, mean != 0, static_cast<const scalar_t*>(input),
        static_cast<const accumulate_t*>(weight), static_cast<accumulate_t*>(loss),
        static_cast<accumulate_t*>(total_weight), static_cast<accumulate_t*>(gradient),
        problem->gradient_strides, workspace.begin(), nullptr);
    workspace.check();
  });
}

extern "C" int cross_entropy_pixels(const Problem* problem, const double* label_smoothing,
                                    const void* input, const void* target, const void* weight,
                                    void* losses) {
  return guarded_for_type(problem->dtype, [=](auto* type) {
    using scalar_t = std::remove_pointer_t<decltype(type)>;
    using accumulate_t = accumulate_of<scalar_t>;
    launch_cross_entropy_pixels<scalar_t>(
        problem->cross_entropy(target, *label_smoothing), static_cast<const scalar_t*>(input),
        static_cast<const accumulate_t*>(weight), static_cast<accumulate_t*>(losses), nullptr);
  });
}

extern "C" int cross_entropy_pixels_backward(const Problem* problem, const double* label_smoothing,
                                             const void* grad_output, const void* input,
                                             const void* target, const void* weight,
                                             void* gradient) {
  return guarded_for_type(problem->dtype, [=](auto* type) {
    using scalar_t = std::remove_pointer_t<decltype(type)>;
    using accumulate_t = accumulate_of<scalar_t>;
    const CrossEntropy plain = problem->cross_entropy(target, *label_smoothing);
    const Workspace workspace(cross_entropy_pixels_backward_workspace<scalar_t>(plain));
    launch_cross_entropy_pixels_backward<scalar_t>(
        plain, static_cast<const accumulate_t*>(grad_output), static_cast<const scalar_t*>(input),
        static_cast<const accumulate_t*>(weight), static_cast<accumulate_t*>(gradient),
        problem->gradient_strides, workspace.begin(), nullptr);
    workspace.check();
  });
}

extern "C" int scale_gradient(int64_t dtype, int64_t count, void* gradient, const void* factor) {
  return cuda_emulation::guarded([=] {
    if (dtype == 1) {
      cross_entropy::launch_scale(static_cast<double*>(gradient), count,
                                  static_cast<const double*>(factor), nullptr);
    } else {
      cross_entropy::launch_scale(static_cast<float*>(gradient), count,
                                  static_cast<const float*>(factor), nullptr);
    }
  });
}
