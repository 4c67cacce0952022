// Sums of probabilities over regions on CUDA, and their gradient, for every shape, type and layout,
// pixel by pixel.
//
// Forward: a block walks over pieces of the rows of an image, a thread a pixel; what its pixels add
// to each class is summed over the block and kept in its own part of the workspace, from where a
// second kernel adds the parts up. Backward: a kernel leaves what the gradient needs of each pixel
// of some images, and the lanes of an element of the coarse scores walk over the pixels that read
// it.
#pragma once

#include "common/cuda/launch.cuh"
#include "region_sums/region_sums.h"
#include "softmax/cuda/pixel.cuh"
#include "target/cuda/label_class.cuh"

namespace fcn_ext {

namespace region_sums {

using namespace softmax;

constexpr int kClassesAtOnce = 8;  // whose sums a block adds up together
constexpr int kRows = 4;           // of sums, by RegionSum
constexpr int kWarps = kDirectThreads / kWarp;
// Blocks that fill a large GPU; fewer where their parts of the workspace would take more bytes.
constexpr int64_t kMostRegionBlocks = 4096;
constexpr int64_t kMostPartBytes = int64_t{32} << 20;
// Of the pixels that the backward pass keeps at a time: whole images, at least one.
constexpr int64_t kMostPixelBytes = int64_t{64} << 20;

struct BlockLoss {
  double loss, weight;
};

template <typename scalar_t>
struct ForwardArgs {
  using accumulate_t = accumulate_of<scalar_t>;
  RegionSums problem;
  const scalar_t* input;
  const accumulate_t* weight;  // of classes, or null
  bool squared, losses;
  double* sums;           // [images][blocks of an image][kRows][classes]
  BlockLoss* block_loss;  // [images][blocks of an image]
};

__host__ __device__ __forceinline__ int64_t pieces_of(const BilinearShape& shape) {
  return shape.y.output_size * row_pieces(shape.x.output_size);
}

// A pixel of an image.
struct Place {
  int64_t y, x;
};
// That of a thread in piece `piece`; it may lie beyond the end of its row.
__device__ __forceinline__ Place place_of(const BilinearShape& shape, int64_t piece) {
  const int64_t pieces = row_pieces(shape.x.output_size);
  return {piece / pieces, piece % pieces * kDirectThreads + threadIdx.x};
}

// A pixel's softmax: its taps, the scores of its winner, the sum of exponentials relative to it.
template <typename scalar_t>
struct PixelSoftmax {
  using accumulate_t = accumulate_of<scalar_t>;
  PixelTaps<scalar_t> taps;
  int64_t channel;
  int32_t winner;
  accumulate_t reference[4];

  __device__ __forceinline__ PixelSoftmax(const RegionSums& problem, const scalar_t* image,
                                          const Place& place, int32_t classes)
      : taps(problem.input_strides, image, weighted_tap<accumulate_t>(problem.shape.y, place.y),
             weighted_tap<accumulate_t>(problem.shape.x, place.x)),
        channel(problem.input_strides.channel),
        winner(winner_of(taps, classes, channel)) {
    taps.load(winner * channel, reference);
  }

  __device__ __forceinline__ accumulate_t difference(int32_t c) const {
    return taps.difference(c * channel, reference);
  }
  __device__ __forceinline__ accumulate_t power(int32_t c) const { return std::exp(difference(c)); }
};

template <typename accumulate_t>
__device__ __forceinline__ accumulate_t sum_over_warp(accumulate_t value) {
#pragma unroll
  for (int other = kWarp / 2; other > 0; other /= 2) {
    value += __shfl_xor_sync(kFullMask, value, other);
  }
  return value;
}

// Shared memory: two times kWarps * kClassesAtOnce * kRows of accumulate_t, used by turns.
template <typename scalar_t>
__global__ void __launch_bounds__(kDirectThreads, 4)
    region_sums_kernel(const ForwardArgs<scalar_t> args) {
  using accumulate_t = accumulate_of<scalar_t>;
  const RegionSums& problem = args.problem;
  const auto classes = static_cast<int32_t>(problem.shape.channels);
  const int64_t n = blockIdx.y;
  const int64_t part = n * gridDim.x + blockIdx.x;
  const int thread = static_cast<int>(threadIdx.x), warp = thread / kWarp;
  double* const to = args.sums + part * kRows * classes;
  constexpr int kStage = kWarps * kClassesAtOnce * kRows;
  auto* shared = shared_memory<accumulate_t>();
  int turn = 0;
  double loss_sum = 0, weight_sum = 0;

  for (int64_t piece = blockIdx.x; piece < pieces_of(problem.shape); piece += gridDim.x) {
    const Place place = place_of(problem.shape, piece);
    const bool inside = place.x < problem.shape.x.output_size;
    int32_t label =
        inside ? class_at(problem.target, problem.ignore_index, classes, n, place.y, place.x)
               : kIgnored;
    const bool counts = label != kIgnored;
    const PixelSoftmax<scalar_t> pixel(problem, args.input + n * problem.input_strides.batch,
                                       inside ? place : Place{place.y, 0}, counts ? classes : 1);
    accumulate_t inverse = 0;
    if (counts) {
      const accumulate_t sum = sum_exponentials(pixel.taps, pixel.reference, classes, pixel.channel,
                                                [](int32_t, accumulate_t) {});
      inverse = 1 / sum;
      if (label == kInvalid) {
        inverse = not_a_number<accumulate_t>();
        label = 0;
      }
      if (args.losses) {
        const accumulate_t weight = args.weight == nullptr ? 1 : args.weight[label];
        loss_sum += static_cast<double>(weight * -(pixel.difference(label) + std::log(inverse)));
        weight_sum += static_cast<double>(weight);
      }
    }
    const bool first_piece = piece == blockIdx.x;
    for (int32_t first = 0; first < classes; first += kClassesAtOnce) {
      accumulate_t* const found = shared + turn * kStage;
      turn = 1 - turn;
      for (int32_t k = 0; k < kClassesAtOnce && first + k < classes; ++k) {
        const int32_t c = first + k;
        const accumulate_t p = counts ? pixel.power(c) * inverse : 0;
        accumulate_t values[kRows] = {sum_over_warp(p), 0, 0, 0};
        if (args.squared) {
          values[kSquared] = sum_over_warp(p * p);
        }
        if (__any_sync(kFullMask, label == c)) {
          values[kIntersection] = sum_over_warp(label == c ? p : 0);
          values[kCount] = sum_over_warp(static_cast<accumulate_t>(label == c ? 1 : 0));
        }
        if (thread % kWarp == 0) {
#pragma unroll
          for (int row = 0; row < kRows; ++row) {
            found[(warp * kClassesAtOnce + k) * kRows + row] = values[row];
          }
        }
      }
      __syncthreads();
      // Written again only after the next barrier, which all threads reach when they have read.
      const int k = thread / kRows, row = thread % kRows;
      if (k < kClassesAtOnce && first + k < classes) {
        double sum = 0;
        for (int of = 0; of < kWarps; ++of) {
          sum += static_cast<double>(found[(of * kClassesAtOnce + k) * kRows + row]);
        }
        double* const at = to + static_cast<int64_t>(row) * classes + first + k;
        *at = first_piece ? sum : *at + sum;
      }
    }
  }
  if (args.losses) {
    __syncthreads();
    auto* scratch = shared_memory<double>();
    loss_sum = block_sum(loss_sum, scratch);
    weight_sum = block_sum(weight_sum, scratch);
    if (thread == 0) {
      args.block_loss[part] = {loss_sum, weight_sum};
    }
  }
}

// What the gradient needs of a pixel, of class c: power_c (A_c inverse + common) + 2 D_c (power_c
// inverse)^2, and `own` of its label's. winner < 0: the pixel is ignored.
template <typename accumulate_t>
struct RegionPixel {
  accumulate_t inverse, common, own;
  int32_t winner;
};

// Of images [first, first + count) of the problem: pointers are those of all images.
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

// A block takes a piece of a row, a thread a pixel.
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

// `lanes` neighboring threads take an element of the gradient and share the columns of its pixels.
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
          sum += here * value;
        }
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

inline int64_t blocks_of_image(const BilinearShape& shape) {
  const int64_t bytes = shape.channels * kRows * static_cast<int64_t>(sizeof(double));
  const int64_t blocks = smaller(kMostRegionBlocks, larger<int64_t>(1, kMostPartBytes / bytes));
  return smaller(pieces_of(shape), larger<int64_t>(1, blocks / larger<int64_t>(1, shape.batch)));
}

inline int64_t images_at_once(const BilinearShape& shape, int64_t bytes_per_pixel) {
  const int64_t bytes = shape.y.output_size * shape.x.output_size * bytes_per_pixel;
  return smaller(shape.batch, larger<int64_t>(1, kMostPixelBytes / bytes));
}

template <typename scalar_t>
void launch_direct_sums(const ForwardArgs<scalar_t>& args, int64_t blocks, cudaStream_t stream) {
  const int64_t images = args.problem.shape.batch;
  if (images > kMostBlocksYZ) {
    throw std::invalid_argument("input must have at most 65535 images, got " +
                                std::to_string(images));
  }
  launch(region_sums_kernel<scalar_t>,
         dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(images)), dim3(kDirectThreads),
         2 * kWarps * kClassesAtOnce * kRows * sizeof(accumulate_of<scalar_t>), stream, args);
}

// args: but for what is to change from some images to the next.
template <typename scalar_t>
void launch_direct_gradient(BackwardArgs<scalar_t> args, accumulate_of<scalar_t>* gradient,
                            const PlaneStrides& gradient_strides, cudaStream_t stream) {
  using Pixel = RegionPixel<accumulate_of<scalar_t>>;
  const BilinearShape& shape = args.problem.shape;
  const int64_t at_once = images_at_once(shape, sizeof(Pixel)), pieces = pieces_of(shape);
  if (at_once * pieces > kMostBlocks) {
    throw std::invalid_argument(
        "target must have fewer than 2**31 pieces of 128 pixels of a row, got " +
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
