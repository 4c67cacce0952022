// The kernels of region_sums on memory of exactly the size that they may touch.
#include "cases.h"
#include "region_sums/cuda/kernels.cuh"

namespace {

using namespace fcn_ext;

// 0, value and 2 * value in turn.
template <typename T>
std::unique_ptr<T[]> multiples(int64_t count, float value) {
  return filled<T>(count, [=](int64_t k) { return value * static_cast<float>(k % 3); });
}

template <typename scalar_t, typename label_t>
void run(int64_t classes, const BilinearAxis& y, const BilinearAxis& x, bool channels_last) {
  using accumulate_t = accumulate_of<scalar_t>;
  constexpr int64_t kBatch = 2;
  const int label_type = sizeof(label_t) == 1 ? 0 : sizeof(label_t) == 2 ? 1 : 3;
  const int64_t nodes = kBatch * classes * y.input_size * x.input_size;
  const int64_t pixels = kBatch * y.output_size * x.output_size;
  const auto input = multiples<scalar_t>(nodes, 1.0f);
  const auto target = multiples<label_t>(pixels, 1.0f);
  const auto weight = multiples<accumulate_t>(classes, 1.0f);
  const auto gradient = multiples<accumulate_t>(nodes, 1.0f);
  const PlaneStrides strides = dense_strides(classes, y.input_size, x.input_size, channels_last);
  const RegionSums problem{
      {kBatch, classes, y, x},
      strides,
      {target.get(), label_type, {y.output_size * x.output_size, x.output_size, 1}},
      255};
  for (const bool squared : {true, false}) {
    const int64_t rows = squared ? 4 : 3;
    const auto sums = multiples<double>(rows * kBatch * classes, 1.0f);
    const auto losses = multiples<double>(2 * kBatch, 1.0f);
    const auto workspace = multiples<unsigned char>(
        static_cast<int64_t>(region_sums_workspace<scalar_t>(problem, squared)), 1.0f);
    launch_region_sums<scalar_t>(problem, squared, input.get(), weight.get(), sums.get(),
                                 squared ? losses.get() : nullptr, workspace.get(), nullptr);
    const auto grad_sums = multiples<accumulate_t>(rows * kBatch * classes, 1.0f);
    const auto grad_losses = multiples<accumulate_t>(2 * kBatch, 1.0f);
    const auto pixels_kept = multiples<unsigned char>(
        static_cast<int64_t>(region_sums_backward_workspace<scalar_t>(problem, squared)), 1.0f);
    launch_region_sums_backward<scalar_t>(
        problem, squared, grad_sums.get(), squared ? grad_losses.get() : nullptr, input.get(),
        weight.get(), gradient.get(), strides, pixels_kept.get(), nullptr);
  }
}

// Labels are 0, 1 and 2: with two classes, some are out of range.
void run_all() {
  run<float, uint8_t>(2, upsample_axis(2, 13, 8, 16, 1), interpolate_axis(3, 24, false), false);
  run<c10::Half, int16_t>(9, interpolate_axis(4, 11, true), interpolate_axis(30, 7, false), true);
  run<double, int64_t>(3, upsample_axis(2, 6, 3, 6, 1), upsample_axis(3, 140, 64, 128, 0), true);
  run<c10::BFloat16, uint8_t>(7, interpolate_axis(5, 3, false), interpolate_axis(1, 129, false),
                              false);
}

const bool added = add_case("region_sums", run_all);

}  // namespace
