// The kernels of the sigmoid sums on memory of exactly the size that they may touch.
#include "cases.h"
#include "sigmoid_sums/cuda/kernels.cuh"

namespace {

using namespace fcn_ext;

// Regions and focal sums besides the cross-entropy, or only that.
enum class Wanted { kAll, kCrossEntropy };

template <typename scalar_t, typename target_t>
void run(const BilinearAxis& y, const BilinearAxis& x, int target_type, Wanted wanted) {
  using accumulate_t = accumulate_of<scalar_t>;
  const int64_t masks = 3, pixels = y.output_size * x.output_size;
  const auto input = filled<scalar_t>(2 * masks * y.input_size * x.input_size,
                                      [](int64_t k) { return k % 7 - 3; });
  const auto target = filled<target_t>(2 * masks * pixels, [](int64_t k) { return k % 2; });
  const PlaneStrides strides = dense_strides(masks, y.input_size, x.input_size, false);
  const bool all = wanted == Wanted::kAll;
  const SigmoidSums problem{
      {2, masks, y, x},
      strides,
      {target.get(), target_type, dense_strides(masks, y.output_size, x.output_size, false)},
      255,
      all,
      all && target_type < kFirstSoftMask,
      2};
  const auto sums = filled<accumulate_t>(2 * masks * kSigmoidSums, [](int64_t) { return 1; });
  const auto workspace = filled<double>(
      static_cast<int64_t>(sigmoid_sums_workspace<scalar_t>(problem) / sizeof(double)),
      [](int64_t) { return 0; });
  auto* const memory = reinterpret_cast<unsigned char*>(workspace.get());
  const auto gradient =
      filled<accumulate_t>(2 * masks * y.input_size * x.input_size, [](int64_t) { return 0; });
  SigmoidResults<accumulate_t> results;
  results.sums = sums.get();
  launch_sigmoid_sums<scalar_t>(problem, input.get(), results, memory, nullptr);
  results.gradient = gradient.get();
  results.gradient_strides = strides;
  // With weights for every mask of every image, and with weights for each mask of an image.
  for (const int64_t weight_masks : {2 * masks, masks}) {
    const auto weights =
        filled<accumulate_t>(weight_masks * kSigmoidSums, [](int64_t k) { return k; });
    results.weights = weights.get();
    results.weight_masks = weight_masks;
    launch_sigmoid_sums<scalar_t>(problem, input.get(), results, memory, nullptr);
    const auto loss = filled<accumulate_t>(2 * masks, [](int64_t) { return 0; });
    launch_weigh_sums(sums.get(), weights.get(), weight_masks, 2 * masks, problem.focal, loss.get(),
                      nullptr);
  }
}

template <typename scalar_t, typename target_t>
void run_all(int target_type) {
  for (const Wanted wanted : {Wanted::kAll, Wanted::kCrossEntropy}) {
    const auto map = [&](const BilinearAxis& y, const BilinearAxis& x) {
      run<scalar_t, target_t>(y, x, target_type, wanted);
    };
    map(upsample_axis(3, 20, 8, 16, 3), upsample_axis(5, 37, 8, 16, 2));
    map(interpolate_axis(3, 50, true), interpolate_axis(5, 33, true));
    map(interpolate_axis(7, 4, false), interpolate_axis(1, 300, false));
    // Several tiles; the first of them without an output; nodes with too many for the walk.
    map(interpolate_axis(2, 5, false), interpolate_axis(70, 560, false));
    map(upsample_axis(3, 4, 2, 4, 1), upsample_axis(600, 52, 2, 4, 1150));
    map(upsample_axis(600, 52, 2, 4, 1150), upsample_axis(3, 4, 2, 4, 1));
    map(interpolate_axis(1, 3, false), interpolate_axis(2, 1200, false));
  }
}

void run_types() {
  run_all<float, uint8_t>(0);
  run_all<c10::Half, int64_t>(3);
  run_all<c10::BFloat16, float>(kFirstSoftMask);
  run_all<double, float>(kFirstSoftMask);
}

const bool added = add_case("sigmoid_sums", run_types);

}  // namespace
