// The resampling kernels on memory of exactly the size that they may touch.
#include "bilinear/cuda/kernels.cuh"
#include "cases.h"

namespace {

using namespace fcn_ext;

template <typename scalar_t>
std::unique_ptr<scalar_t[]> ones(int64_t count) {
  return filled<scalar_t>(count, [](int64_t) { return 1; });
}

template <typename scalar_t>
void run(int64_t channels, const BilinearAxis& y, const BilinearAxis& x, bool channels_last) {
  const BilinearShape shape{2, channels, y, x};
  const int64_t planes = 2 * channels;
  const auto narrow = ones<scalar_t>(planes * y.input_size * x.input_size);
  const auto wide = ones<scalar_t>(planes * y.output_size * x.output_size);
  const auto skip = ones<scalar_t>(planes * y.output_size * x.output_size);
  const PlaneStrides narrow_strides =
      dense_strides(channels, y.input_size, x.input_size, channels_last);
  const PlaneStrides wide_strides =
      dense_strides(channels, y.output_size, x.output_size, channels_last);
  launch_bilinear_forward(shape, narrow.get(), narrow_strides,
                          static_cast<const scalar_t*>(nullptr), wide_strides, wide.get(),
                          channels_last, nullptr);
  launch_bilinear_forward(shape, narrow.get(), narrow_strides, skip.get(), wide_strides, wide.get(),
                          channels_last, nullptr);
  launch_bilinear_backward(shape, wide.get(), wide_strides, narrow.get(), channels_last, nullptr);
}

// Rows that start aligned but end within a vector, the last one at the last element.
template <typename scalar_t>
void run_padded_rows() {
  constexpr int64_t kRows = 4, kColumns = 13, kPitch = 16;
  const BilinearShape shape{1, 1, upsample_axis(2, kRows, 2, 4, 1),
                            upsample_axis(7, kColumns, 2, 4, 1)};
  const auto grad_output = ones<scalar_t>((kRows - 1) * kPitch + kColumns);
  const auto grad_input = ones<scalar_t>(2 * 7);
  launch_bilinear_backward(shape, grad_output.get(), {kRows * kPitch, kRows * kPitch, kPitch, 1},
                           grad_input.get(), false, nullptr);
}

template <typename scalar_t>
void run_all() {
  cuda_emulation::device().multiprocessors = 2;
  run_padded_rows<scalar_t>();
  for (const bool channels_last : {false, true}) {
    for (const int64_t channels : {3, 35}) {
      for (const int64_t stride : {1, 2, 3, 8, 32}) {
        for (const int64_t width : {1, 8, 13}) {
          const int64_t kernel = stride == 1 ? 1 : 2 * stride - width % 2;
          const int64_t rows = upsampled_size(2, stride, kernel);
          const int64_t columns = upsampled_size(width, stride, kernel);
          run<scalar_t>(channels, upsample_axis(2, rows, stride, kernel, 0),
                        upsample_axis(width, columns - columns / 3, stride, kernel, columns / 4),
                        channels_last);
        }
      }
      run<scalar_t>(channels, interpolate_axis(5, 3, false), interpolate_axis(16, 24, false),
                    channels_last);
      run<scalar_t>(channels, interpolate_axis(2, 5, true), interpolate_axis(20, 7, true),
                    channels_last);
    }
  }
  run<scalar_t>(1, interpolate_axis(1, 2, false), interpolate_axis(2, 4400, false), false);
  run<scalar_t>(1, interpolate_axis(2, 9, false), interpolate_axis(300, 2400, false), false);
}

const bool added =
    add_case("bilinear_float", run_all<float>) && add_case("bilinear_half", run_all<c10::Half>);

}  // namespace
