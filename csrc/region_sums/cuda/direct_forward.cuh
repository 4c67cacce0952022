// Region sums on CUDA for every shape, type and layout, pixel by pixel.
//
// A block walks over pieces of the rows of an image, one thread per pixel. It sums what its pixels
// add to each class and stores the sums in its own part of the workspace; a second kernel adds up
// these parts. Memory touched: the scores, three times per pixel; the labels; the parts.
#pragma once

#include "region_sums/cuda/parts.cuh"

namespace fcn_ext {
namespace region_sums {

constexpr int kClassesAtOnce = 8;  // whose sums a block adds up together
constexpr int kWarps = kDirectThreads / kWarp;
// Enough blocks to fill a large GPU; fewer if their parts of the workspace took more bytes.
constexpr int64_t kMostRegionBlocks = 4096;
constexpr int64_t kMostPartBytes = int64_t{32} << 20;

template <typename scalar_t>
struct ForwardArgs {
  using accumulate_t = accumulate_of<scalar_t>;
  RegionSums problem;
  const scalar_t* input;
  const accumulate_t* weight;  // per class, or null
  bool squared, losses;
  int64_t blocks;         // per image
  double* sums;           // [images][blocks][kRows][classes]
  BlockLoss* block_loss;  // [images][blocks]
};

// Each thread computes one pixel of a piece at a time. Shared memory: two stages of kWarps *
// kClassesAtOnce * kRows accumulate_t, used in turn.
template <typename scalar_t>
__global__ void __launch_bounds__(kDirectThreads, 4)
    region_sums_kernel(const ForwardArgs<scalar_t> args) {
  using accumulate_t = accumulate_of<scalar_t>;
  const RegionSums& problem = args.problem;
  const auto classes = static_cast<int32_t>(problem.shape.channels);
  const int64_t part = blockIdx.x, n = part / args.blocks, first_piece = part % args.blocks;
  const int thread = static_cast<int>(threadIdx.x), warp = thread / kWarp;
  double* const to = args.sums + part * kRows * classes;
  constexpr int kStage = kWarps * kClassesAtOnce * kRows;
  auto* shared = shared_memory<accumulate_t>();
  int turn = 0;
  double loss_sum = 0, weight_sum = 0;

  for (int64_t piece = first_piece; piece < pieces_of(problem.shape); piece += args.blocks) {
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
      // `found` is written again only after the next barrier, by when all threads have read it.
      const int k = thread / kRows, row = thread % kRows;
      if (k < kClassesAtOnce && first + k < classes) {
        double sum = 0;
        for (int of = 0; of < kWarps; ++of) {
          sum += static_cast<double>(found[(of * kClassesAtOnce + k) * kRows + row]);
        }
        double* const at = to + static_cast<int64_t>(row) * classes + first + k;
        *at = piece == first_piece ? sum : *at + sum;
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

inline int64_t blocks_of_image(const BilinearShape& shape) {
  const int64_t bytes = shape.channels * kRows * static_cast<int64_t>(sizeof(double));
  const int64_t blocks = smaller(kMostRegionBlocks, larger<int64_t>(1, kMostPartBytes / bytes));
  return smaller(pieces_of(shape), larger<int64_t>(1, blocks / larger<int64_t>(1, shape.batch)));
}

template <typename scalar_t>
void launch_direct_sums(const ForwardArgs<scalar_t>& args, cudaStream_t stream) {
  launch(region_sums_kernel<scalar_t>, dim3(blocks_along_x(args.problem.shape.batch * args.blocks)),
         dim3(kDirectThreads),
         2 * kWarps * kClassesAtOnce * kRows * sizeof(accumulate_of<scalar_t>), stream, args);
}

}  // namespace region_sums
}  // namespace fcn_ext
