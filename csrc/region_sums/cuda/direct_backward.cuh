// The gradient of region sums on CUDA for every shape, type and layout, pixel by pixel.
//
// One kernel stores what the gradient needs of each pixel of some images, one thread per pixel. In
// another, the lanes of each element of the coarse scores walk over the pixels that read it. Memory
// touched: the scores, twice per pixel and once per element for each of its pixels; the labels; one
// RegionPixel per pixel.
#pragma once

#include "common/refusal.h"
#include "region_sums/cuda/parts.cuh"

namespace fcn_ext {
namespace region_sums {

// The bytes of pixels stored at a time: those of whole images, at least one.
constexpr int64_t kMostPixelBytes = int64_t{64} << 20;

// What the gradient needs of a pixel. It is power_c (A_c inverse + common) + 2 D_c (power_c
// inverse)^2 for class c, plus `own` for its label. winner < 0: the pixel is ignored.
template <typename accumulate_t>
struct RegionPixel {
  accumulate_t inverse, common, own;
  int32_t winner;
};

// For images [first, first + count) of the problem; pointers are to those of all images.
template <typename scalar_t>
struct BackwardArgs {
  using accumulate_t = accumulate_of<scalar_t>;
  RegionSums problem;
  const scalar_t* input;
  const accumulate_t* weight;
  const accumulate_t* grad_sums;    // [3 or 4][images][classes]
  const accumulate_t* grad_losses;  // [2][images] or null
  bool squared;
  int64_t first;
  RegionPixel<accumulate_t>* pixels;  // [count][height][width]

  __device__ __forceinline__ accumulate_t grad(RegionSum row, int64_t n, int32_t c) const {
    return grad_sums[(row * problem.shape.batch + n) * problem.shape.channels + c];
  }
};

// Each thread computes the RegionPixel of one pixel; a block takes a piece of a row.
template <typename scalar_t>
__global__ void __launch_bounds__(kDirectThreads, 4)
    region_pixels_kernel(const BackwardArgs<scalar_t> args) {
  using accumulate_t = accumulate_of<scalar_t>;
  const RegionSums& problem = args.problem;
  const auto classes = static_cast<int32_t>(problem.shape.channels);
  const int64_t height = problem.shape.y.output_size, width = problem.shape.x.output_size;
  const int64_t pieces = pieces_of(problem.shape);
  const int64_t local = blockIdx.x / pieces, n = args.first + local;
  const Place place = place_of(problem.shape, blockIdx.x % pieces);
  if (place.x >= width) {
    return;
  }
  RegionPixel<accumulate_t> found{0, 0, 0, -1};
  const int32_t label =
      class_at(problem.target, problem.ignore_index, classes, n, place.y, place.x);
  if (label == kInvalid) {
    found = {1, not_a_number<accumulate_t>(), 0, 0};
  } else if (label != kIgnored) {
    const PixelSoftmax<scalar_t> pixel(problem, args.input + n * problem.input_strides.batch, place,
                                       classes);
    accumulate_t plain = 0, squares = 0;
    const accumulate_t sum =
        sum_exponentials(pixel.taps, pixel.reference, classes, pixel.channel,
                         [&](int32_t c, accumulate_t difference) {
                           const accumulate_t power = std::exp(difference);
                           plain += args.grad(kProbability, n, c) * power;
                           if (args.squared) {
                             squares += 2 * args.grad(kSquared, n, c) * (power * power);
                           }
                         });
    const accumulate_t inverse = 1 / sum;
    accumulate_t own = args.grad(kIntersection, n, label) * (pixel.power(label) * inverse);
    if (args.grad_losses != nullptr) {
      own -= args.grad_losses[n] * (args.weight == nullptr ? 1 : args.weight[label]);
    }
    const accumulate_t mean = plain * inverse + squares * (inverse * inverse) + own;
    found = {inverse, -mean * inverse, own, pixel.winner};
  }
  args.pixels[(local * height + place.y) * width + place.x] = found;
}

// `lanes` neighboring threads compute one element of the gradient: they share the columns of pixels
// that read it.
template <typename scalar_t>
__global__ void __launch_bounds__(kDirectThreads, 4)
    region_gradient_kernel(const BackwardArgs<scalar_t> args, const int64_t count,
                           accumulate_of<scalar_t>* out, const PlaneStrides out_strides,
                           const int lanes) {
  using accumulate_t = accumulate_of<scalar_t>;
  const RegionSums& problem = args.problem;
  const BilinearAxis &y_axis = problem.shape.y, &x_axis = problem.shape.x;
  const int64_t height = y_axis.output_size, width = x_axis.output_size;
  const int64_t channel = problem.input_strides.channel, classes = problem.shape.channels;
  const int64_t elements = count * classes * y_axis.input_size * x_axis.input_size;
  const int64_t groups = static_cast<int>(blockDim.x) / lanes;
  const int lane = static_cast<int>(threadIdx.x) % lanes;

  for (int64_t first = blockIdx.x * groups; first < elements; first += gridDim.x * groups) {
    const int64_t element = first + static_cast<int>(threadIdx.x) / lanes;
    const int64_t j = element % x_axis.input_size,
                  i = element / x_axis.input_size % y_axis.input_size;
    const int64_t plane = element / x_axis.input_size / y_axis.input_size;
    const auto c = static_cast<int32_t>(plane % classes);
    const int64_t local = plane / classes, n = args.first + local;
    accumulate_t sum = 0;
    if (element < elements) {
      const scalar_t* image = args.input + n * problem.input_strides.batch;
      const accumulate_t of_probability = args.grad(kProbability, n, c);
      const accumulate_t of_square = args.squared ? 2 * args.grad(kSquared, n, c) : 0;
      const int64_t x_begin = first_output(x_axis, j - 1), x_end = first_output(x_axis, j + 1);
      const int64_t y_end = first_output(y_axis, i + 1);
      for (int64_t y = first_output(y_axis, i - 1); y < y_end; ++y) {
        const auto row = weighted_tap<accumulate_t>(y_axis, y);
        const accumulate_t row_weight = row.node == i ? row.lower : row.upper;
        accumulate_t in_row = 0;  // short sums: equal terms are all rounded to the same side
        for (int64_t x = x_begin + lane; x < x_end; x += lanes) {
          const auto column = weighted_tap<accumulate_t>(x_axis, x);
          const accumulate_t here = row_weight * (column.node == j ? column.lower : column.upper);
          const RegionPixel<accumulate_t> pixel = args.pixels[(local * height + y) * width + x];
          if (here == 0 || pixel.winner < 0) {
            continue;
          }
          const PixelTaps<scalar_t> taps(problem.input_strides, image, row, column);
          accumulate_t reference[4];
          taps.load(pixel.winner * channel, reference);
          const accumulate_t power = std::exp(taps.difference(c * channel, reference));
          const accumulate_t p = power * pixel.inverse;
          accumulate_t value = of_probability * p + power * pixel.common + of_square * (p * p);
          if (class_at(problem.target, problem.ignore_index, static_cast<int32_t>(classes), n, y,
                       x) == c) {
            value += pixel.own;
          }
          in_row += here * value;
        }
        sum += in_row;
      }
    }
    for (int other = lanes / 2; other > 0; other /= 2) {
      sum += __shfl_xor_sync(kFullMask, sum, other);
    }
    if (element < elements && lane == 0) {
      out[n * out_strides.batch + c * out_strides.channel + i * out_strides.row +
          j * out_strides.column] = sum;
    }
  }
}

inline int64_t images_at_once(const BilinearShape& shape, int64_t bytes_per_pixel) {
  const int64_t bytes = shape.y.output_size * shape.x.output_size * bytes_per_pixel;
  return smaller(shape.batch, larger<int64_t>(1, kMostPixelBytes / bytes));
}

// args: `first` is set here, for some images at a time.
template <typename scalar_t>
void launch_direct_gradient(BackwardArgs<scalar_t> args, accumulate_of<scalar_t>* gradient,
                            const PlaneStrides& gradient_strides, cudaStream_t stream) {
  using Pixel = RegionPixel<accumulate_of<scalar_t>>;
  const BilinearShape& shape = args.problem.shape;
  const int64_t at_once = images_at_once(shape, sizeof(Pixel)), pieces = pieces_of(shape);
  if (at_once * pieces > kMostBlocks) {
    throw Refusal("target must have fewer than 2**31 pieces of 128 pixels of a row, got " +
                  std::to_string(at_once * pieces));
  }
  const int64_t columns = 2 * shape.x.output_size / shape.x.input_size;  // that read an element
  const int lanes = columns >= 32 ? 32 : columns >= 8 ? 8 : 1;
  for (args.first = 0; args.first < shape.batch; args.first += at_once) {
    const int64_t count = smaller(at_once, shape.batch - args.first);
    launch(region_pixels_kernel<scalar_t>, dim3(static_cast<unsigned>(count * pieces)),
           dim3(kDirectThreads), 0, stream, args);
    const int64_t elements = count * shape.channels * shape.y.input_size * shape.x.input_size;
    launch(region_gradient_kernel<scalar_t>,
           dim3(static_cast<unsigned>(
               smaller(ceil_divide(elements * lanes, kDirectThreads), int64_t{1} << 16))),
           dim3(kDirectThreads), 0, stream, args, count, gradient, gradient_strides, lanes);
  }
}

}  // namespace region_sums
}  // namespace fcn_ext
