// The kernels of the sigmoid sums on memory of exactly the size they may touch.
#include "cases.h"
#include "sigmoid_sums/cuda/kernels.cuh"

namespace {

using namespace fcn_ext;

template <typename scalar_t, typename target_t>
void run(const BilinearAxis& y, const BilinearAxis& x, int target_type) {
  using accumulate_t = accumulate_of<scalar_t>;
  const int64_t masks = 3, pixels = y.output_size * x.output_size;
  const auto input = filled<scalar_t>(2 * masks * y.input_size * x.input_size,
                                      [](int64_t k) { return k % 7 - 3; });
  const auto target = filled<target_t>(2 * masks * pixels, [](int64_t k) { return k % 2; });
  const PlaneStrides strides = dense_strides(masks, y.input_size, x.input_size, false);
  const SigmoidSums problem{
      {2, masks, y, x},
      strides,
      {target.get(), target_type, dense_strides(masks, y.output_size, x.output_size, false)},
      255,
      true,
      target_type < kFirstSoftMask,
      2};
  const auto sums = filled<accumulate_t>(2 * masks * kSigmoidSums, [](int64_t) { return 1; });
  const auto workspace =
      filled<double>(static_cast<int64_t>(sigmoid_sums_workspace(problem) / sizeof(double)),
                     [](int64_t) { return 0; });
  launch_sigmoid_sums<scalar_t>(problem, input.get(), sums.get(),
                                reinterpret_cast<unsigned char*>(workspace.get()), nullptr);
  const auto gradient =
      filled<accumulate_t>(2 * masks * y.input_size * x.input_size, [](int64_t) { return 0; });
  // Of a row of weights for every mask of every image, and of one for each mask.
  for (const int64_t weight_masks : {2 * masks, masks}) {
    const auto weights =
        filled<accumulate_t>(weight_masks * kSigmoidSums, [](int64_t k) { return k; });
    launch_sigmoid_sums_backward<scalar_t>(problem, weights.get(), weight_masks, input.get(),
                                           gradient.get(), strides, nullptr);
    const auto loss = filled<accumulate_t>(2 * masks, [](int64_t) { return 0; });
    launch_weigh_sums(sums.get(), weights.get(), weight_masks, 2 * masks, problem.focal, loss.get(),
                      nullptr);
  }
}

template <typename scalar_t, typename target_t>
void run_all(int target_type) {
  run<scalar_t, target_t>(upsample_axis(3, 20, 8, 16, 3), upsample_axis(5, 37, 8, 16, 2),
                          target_type);
  run<scalar_t, target_t>(interpolate_axis(3, 50, true), interpolate_axis(5, 33, true),
                          target_type);
  run<scalar_t, target_t>(interpolate_axis(7, 4, false), interpolate_axis(1, 300, false),
                          target_type);
}

void run_types() {
  run_all<float, uint8_t>(0);
  run_all<c10::Half, int64_t>(3);
  run_all<double, float>(kFirstSoftMask);
}

const bool added = add_case("sigmoid_sums", run_types);

}  // namespace
