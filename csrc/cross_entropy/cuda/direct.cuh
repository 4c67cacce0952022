// Cross-entropy of upsampled scores on CUDA for every shape, type and layout, pixel by pixel.
//
// One kernel computes the loss, one thread per pixel. The gradient is a gather: a few lanes for
// each element (n, c, i, j) of the coarse scores walk over the pixels that read it. Memory touched:
// the scores, twice per pixel, and for the gradient one PixelSum per pixel.
#pragma once

#include <string>

#include "common/cuda/launch.cuh"
#include "common/refusal.h"
#include "cross_entropy/cuda/finish.cuh"
#include "softmax/cuda/pixel.cuh"

namespace fcn_ext {
namespace cross_entropy {

constexpr int64_t kMostDirectBlocks = 1 << 16;

template <typename scalar_t>
struct DirectArgs {
  using accumulate_t = accumulate_of<scalar_t>;
  CrossEntropy problem;
  const scalar_t* input;
  ClassTerms<accumulate_t> terms;
  const accumulate_t* grad_output;  // (N, H, W); null: one everywhere
  accumulate_t* losses;             // (N, H, W) or null
  PartialLoss* partials;            // one per block, or null
  PixelSum<accumulate_t>* sums;     // (N, H, W) or null
  const accumulate_t* scale;        // of the gradient; null: one
};

// Each thread computes the loss of one pixel; a block takes a piece of a row of pixels.
template <typename scalar_t>
__global__ void __launch_bounds__(kDirectThreads)
    direct_loss_kernel(const DirectArgs<scalar_t> args) {
  using accumulate_t = accumulate_of<scalar_t>;
  const CrossEntropy& problem = args.problem;
  const int64_t height = problem.shape.y.output_size, width = problem.shape.x.output_size;
  const int64_t channel = problem.input_strides.channel;
  const ClassTerms<accumulate_t>& terms = args.terms;
  auto* scratch = shared_memory<double>();
  const accumulate_t all_smooth = smooth_total(terms, reinterpret_cast<accumulate_t*>(scratch));

  double loss_sum = 0, weight_sum = 0;
  const unsigned block = blockIdx.x, pieces = row_pieces(width);
  const auto rows = static_cast<unsigned>(height);
  const int64_t y = block / pieces % rows, n = block / pieces / rows;
  const int64_t x = static_cast<int64_t>(block % pieces) * kDirectThreads + threadIdx.x;
  if (x < width) {
    const int64_t pixel = (n * height + y) * width + x;
    const PixelTaps<scalar_t> taps(problem.input_strides,
                                   args.input + n * problem.input_strides.batch,
                                   weighted_tap<accumulate_t>(problem.shape.y, y),
                                   weighted_tap<accumulate_t>(problem.shape.x, x));
    const int32_t label = label_at(problem, n, y, x);
    accumulate_t loss = 0, scale = 0;
    int32_t winner = -1;
    if (label == kInvalid) {
      loss = scale = not_a_number<accumulate_t>();
      winner = 0;
    } else if (label != kIgnored) {
      winner = winner_of(taps, terms.classes, channel);
      accumulate_t reference[4];
      taps.load(winner * channel, reference);
      accumulate_t weighted = 0;
      const auto smoothing = [&](int32_t c, accumulate_t difference) {
        // Skip the winner, whose difference is zero: its weight may be infinite.
        if (terms.smooth != 0 && difference != 0) {
          weighted += terms.weight_of(c) * difference;
        }
      };
      const accumulate_t sum = sum_exponentials(taps, reference, terms.classes, channel, smoothing);
      const accumulate_t log_sum = std::log(sum);
      const accumulate_t weight = terms.weight_of(label);
      loss = terms.hard * (weight * (log_sum - taps.difference(label * channel, reference)));
      if (terms.smooth != 0) {
        loss += all_smooth * log_sum - terms.smooth * weighted;
      }
      const accumulate_t gradient = args.grad_output == nullptr ? 1 : args.grad_output[pixel];
      scale = gradient * (terms.hard * weight + all_smooth) / sum;
      weight_sum = static_cast<double>(weight);
    }
    loss_sum = static_cast<double>(loss);
    if (args.losses != nullptr) {
      args.losses[pixel] = loss;
    }
    if (args.sums != nullptr) {
      args.sums[pixel] = {scale, winner};
    }
  }
  if (args.partials != nullptr) {
    loss_sum = block_sum(loss_sum, scratch);
    weight_sum = block_sum(weight_sum, scratch);
    if (threadIdx.x == 0) {
      args.partials[blockIdx.x] = {loss_sum, weight_sum};
    }
  }
}

// `lanes` neighboring threads compute one element of the gradient: they share the columns of pixels
// that read it.
template <typename scalar_t>
__global__ void __launch_bounds__(kDirectThreads, 4)
    direct_gradient_kernel(const DirectArgs<scalar_t> args, accumulate_of<scalar_t>* out,
                           const PlaneStrides out_strides, const int lanes) {
  using accumulate_t = accumulate_of<scalar_t>;
  const CrossEntropy& problem = args.problem;
  const BilinearAxis &y_axis = problem.shape.y, &x_axis = problem.shape.x;
  const int64_t height = y_axis.output_size, width = x_axis.output_size;
  const int64_t channel = problem.input_strides.channel;
  const ClassTerms<accumulate_t>& terms = args.terms;
  const int64_t elements =
      problem.shape.batch * problem.shape.channels * y_axis.input_size * x_axis.input_size;
  const int64_t groups = static_cast<int>(blockDim.x) / lanes;
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const accumulate_t scale = args.scale == nullptr ? 1 : *args.scale;

  for (int64_t first = blockIdx.x * groups; first < elements; first += gridDim.x * groups) {
    const int64_t element = first + static_cast<int>(threadIdx.x) / lanes;
    const int64_t j = element % x_axis.input_size,
                  i = element / x_axis.input_size % y_axis.input_size;
    const int64_t plane = element / x_axis.input_size / y_axis.input_size;
    const auto c = static_cast<int32_t>(plane % problem.shape.channels);
    const int64_t n = plane / problem.shape.channels;
    accumulate_t sum = 0;
    if (element < elements) {
      const scalar_t* image = args.input + n * problem.input_strides.batch;
      const accumulate_t weight = terms.weight_of(c);
      const int64_t x_begin = first_output(x_axis, j - 1), x_end = first_output(x_axis, j + 1);
      const int64_t y_end = first_output(y_axis, i + 1);
      for (int64_t y = first_output(y_axis, i - 1); y < y_end; ++y) {
        const auto row = weighted_tap<accumulate_t>(y_axis, y);
        const accumulate_t row_weight = row.node == i ? row.lower : row.upper;
        accumulate_t in_row = 0;  // short sums: equal terms are all rounded to the same side
        for (int64_t x = x_begin + lane; x < x_end; x += lanes) {
          const auto column = weighted_tap<accumulate_t>(x_axis, x);
          const accumulate_t here = row_weight * (column.node == j ? column.lower : column.upper);
          const int64_t pixel = (n * height + y) * width + x;
          const PixelSum<accumulate_t> pixel_sum = args.sums[pixel];
          if (here == 0 || pixel_sum.winner < 0) {
            continue;
          }
          const PixelTaps<scalar_t> taps(problem.input_strides, image, row, column);
          accumulate_t reference[4];
          taps.load(pixel_sum.winner * channel, reference);
          const accumulate_t gradient = args.grad_output == nullptr ? 1 : args.grad_output[pixel];
          // A class's weight may be infinite: only smoothing and the class's own pixels read it.
          accumulate_t one_hot = terms.smooth != 0 ? terms.smooth * weight : accumulate_t(0);
          if (label_at(problem, n, y, x) == c) {
            one_hot += terms.hard * weight;
          }
          in_row += here * (pixel_sum.scale * std::exp(taps.difference(c * channel, reference)) -
                            gradient * one_hot);
        }
        sum += in_row;
      }
    }
    for (int other = lanes / 2; other > 0; other /= 2) {
      sum += __shfl_xor_sync(kFullMask, sum, other);
    }
    if (element < elements && lane == 0) {
      out[n * out_strides.batch + c * out_strides.channel + i * out_strides.row +
          j * out_strides.column] = sum * scale;
    }
  }
}

// The number of elements in the gradient.
inline int64_t elements_of(const CrossEntropy& problem) {
  const BilinearShape& shape = problem.shape;
  return shape.batch * shape.channels * shape.y.input_size * shape.x.input_size;
}

inline int64_t direct_blocks(const CrossEntropy& problem) {
  const BilinearShape& shape = problem.shape;
  return shape.batch * shape.y.output_size * row_pieces(shape.x.output_size);
}

template <typename scalar_t>
void launch_direct_loss(const DirectArgs<scalar_t>& args, cudaStream_t stream) {
  const int64_t blocks = direct_blocks(args.problem);
  if (blocks > kMostBlocks) {
    throw Refusal("target must have fewer than 2**31 pieces of 128 pixels of a row, got " +
                  std::to_string(blocks));
  }
  launch(direct_loss_kernel<scalar_t>, dim3(static_cast<unsigned>(blocks)), dim3(kDirectThreads),
         kDirectThreads * sizeof(double), stream, args);
}

template <typename scalar_t>
void launch_direct_gradient(const DirectArgs<scalar_t>& args, accumulate_of<scalar_t>* gradient,
                            const PlaneStrides& gradient_strides, cudaStream_t stream) {
  const BilinearShape& shape = args.problem.shape;
  const int64_t columns = 2 * shape.x.output_size / shape.x.input_size;  // that read an element
  const int lanes = columns >= 32 ? 32 : columns >= 8 ? 8 : 1;
  launch(direct_gradient_kernel<scalar_t>,
         dim3(static_cast<unsigned>(smaller(
             ceil_divide(elements_of(args.problem) * lanes, kDirectThreads), kMostDirectBlocks))),
         dim3(kDirectThreads), 0, stream, args, gradient, gradient_strides, lanes);
}

}  // namespace cross_entropy
}  // namespace fcn_ext
