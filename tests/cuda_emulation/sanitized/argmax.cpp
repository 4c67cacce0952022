// The prediction kernels on memory of exactly the size that they may touch.
#include <vector>

#include "argmax/cuda/kernels.cuh"
#include "cases.h"

namespace {

using namespace fcn_ext;

// `classes` values in steps of `step`, so that winners change from node to node.
template <typename T>
std::unique_ptr<T[]> elements(int64_t count, int64_t step, int64_t classes) {
  return filled<T>(count, [=](int64_t k) { return k * step % classes; });
}

template <typename scalar_t, typename label_t>
void run(int64_t channels, const BilinearAxis& y, const BilinearAxis& x, int label_type,
         bool counting) {
  const BilinearShape shape{2, channels, y, x};
  const int64_t pixels = 2 * y.output_size * x.output_size;
  for (const bool channels_last : {false, true}) {
    const auto input =
        elements<scalar_t>(2 * channels * y.input_size * x.input_size, 7, channels + 3);
    const PlaneStrides strides = dense_strides(channels, y.input_size, x.input_size, channels_last);
    const auto labels = elements<label_t>(pixels, 1, channels);
    if (counting) {
      std::vector<int64_t> matrix(static_cast<size_t>(channels * channels));
      const auto invalid = std::make_unique<int64_t>(0);
      const LabelMap target{
          labels.get(), label_type, {y.output_size * x.output_size, x.output_size, 1}};
      launch_argmax_confusion(shape, input.get(), strides, target, 255, matrix.data(),
                              invalid.get(), nullptr);
      const auto hits = std::make_unique<int64_t[]>(2);
      launch_argmax_hits(shape, input.get(), strides, target, 255, hits.get(), nullptr);
    } else {
      const auto probability = elements<accumulate_of<scalar_t>>(pixels, 0, 1);
      launch_argmax(shape, input.get(), strides, labels.get(), label_type, probability.get(),
                    nullptr);
    }
  }
}

template <typename scalar_t, typename label_t>
void run_all(int label_type, bool counting) {
  cuda_emulation::device().multiprocessors = 2;
  for (const int64_t stride : {1, 2, 3, 4, 8, 16, 32}) {
    const int64_t kernel = stride == 1 ? 1 : 2 * stride;
    const int64_t columns = upsampled_size(9, stride, kernel);
    run<scalar_t, label_t>(
        5, upsample_axis(2, upsampled_size(2, stride, kernel), stride, kernel, 0),
        upsample_axis(9, columns - columns / 3, stride, kernel, columns / 4), label_type, counting);
  }
  run<scalar_t, label_t>(35, interpolate_axis(3, 20, true), interpolate_axis(5, 33, true),
                         label_type, counting);
  run<scalar_t, label_t>(4, interpolate_axis(1, 9, false), interpolate_axis(70, 561, false),
                         label_type, counting);
  run<scalar_t, label_t>(3, interpolate_axis(7, 4, false), interpolate_axis(9, 20, false),
                         label_type, counting);
  // Classes that are staged some at a time.
  cuda_emulation::device() = {2, 24 << 10};
  run<scalar_t, label_t>(200, interpolate_axis(3, 12, false), interpolate_axis(5, 20, false),
                         label_type, counting);
}

void run_float() { run_all<float, uint8_t>(0, false); }
void run_half() { run_all<c10::Half, int64_t>(3, false); }
void run_confusion() {
  run_all<float, uint8_t>(0, true);
  run_all<double, int32_t>(2, true);
}

const bool added = add_case("argmax_float", run_float) && add_case("argmax_half", run_half) &&
                   add_case("argmax_confusion", run_confusion);

}  // namespace
