// The cross-entropy's kernels on memory of exactly the size that they may touch.
#include "cases.h"
#include "cross_entropy/cuda/kernels.cuh"

namespace {

using namespace fcn_ext;

// 0, value and 2 * value in turn.
template <typename T>
std::unique_ptr<T[]> multiples(int64_t count, float value) {
  return filled<T>(count, [=](int64_t k) { return value * static_cast<float>(k % 3); });
}

template <typename scalar_t, typename label_t>
void run(int64_t classes, const BilinearAxis& y, const BilinearAxis& x, bool channels_last,
         float scale) {
  using accumulate_t = accumulate_of<scalar_t>;
  constexpr int64_t kBatch = 2;
  const int label_type = sizeof(label_t) == 1 ? 0 : sizeof(label_t) == 2 ? 1 : 3;
  const int64_t nodes = kBatch * classes * y.input_size * x.input_size;
  const int64_t pixels = kBatch * y.output_size * x.output_size;
  const auto input = multiples<scalar_t>(nodes, scale);
  const auto target = multiples<label_t>(pixels, 1.0f);
  const auto weight = multiples<accumulate_t>(classes, 1.0f);
  const auto gradient = multiples<accumulate_t>(nodes, 1.0f);
  const auto losses = multiples<accumulate_t>(pixels, 1.0f);
  accumulate_t loss = 0, total_weight = 0;
  const PlaneStrides strides = dense_strides(classes, y.input_size, x.input_size, channels_last);
  const CrossEntropy problem{
      {kBatch, classes, y, x},
      strides,
      {target.get(), label_type, {y.output_size * x.output_size, x.output_size, 1}},
      255,
      0.1};
  for (const bool with_gradient : {true, false}) {
    const auto workspace = multiples<unsigned char>(
        static_cast<int64_t>(cross_entropy_workspace<scalar_t>(problem, with_gradient)), 1.0f);
    launch_cross_entropy<scalar_t>(problem, with_gradient, input.get(), weight.get(), &loss,
                                   &total_weight, with_gradient ? gradient.get() : nullptr, strides,
                                   workspace.get(), nullptr);
  }
  launch_cross_entropy_pixels<scalar_t>(problem, input.get(), weight.get(), losses.get(), nullptr);
  const auto workspace = multiples<unsigned char>(
      static_cast<int64_t>(cross_entropy_pixels_backward_workspace<scalar_t>(problem)), 1.0f);
  launch_cross_entropy_pixels_backward<scalar_t>(problem, losses.get(), input.get(), weight.get(),
                                                 gradient.get(), strides, workspace.get(), nullptr);
}

// Labels are 0, 1 and 2: with two classes, some are out of range.
template <typename scalar_t, typename label_t>
void run_stride(int64_t stride, int64_t classes, bool channels_last, float scale) {
  const int64_t rows = upsampled_size(2, stride, 2 * stride);
  run<scalar_t, label_t>(classes, upsample_axis(2, rows - 3, stride, 2 * stride, 1),
                         interpolate_axis(3, 3 * stride, false), channels_last, scale);
}

void run_all() {
  for (const int64_t stride : {2, 4, 8, 16, 32}) {
    run_stride<float, uint8_t>(stride, stride == 8 ? 2 : 7, stride == 4, 1.0f);
  }
  run_stride<float, int64_t>(4, 7, true, 1e4f);
  run_stride<c10::BFloat16, int16_t>(8, 3, false, 100.0f);
  run<float, uint8_t>(9, interpolate_axis(4, 11, false), interpolate_axis(3, 20, true), false,
                      1.0f);
  run<c10::Half, int16_t>(7, upsample_axis(3, 40, 12, 23, 5), interpolate_axis(6, 7, false), true,
                          1e3f);
  run<double, uint8_t>(3, upsample_axis(2, 6, 3, 6, 1), upsample_axis(3, 12, 3, 6, 0), true, 1.0f);
  run<c10::Half, int64_t>(5, interpolate_axis(4, 7, true), interpolate_axis(5, 3, false), false,
                          1.0f);
}

const bool added = add_case("cross_entropy", run_all);

}  // namespace
