// The launchers of the fused cross-entropy of upsampled scores.
//
// Shapes with one to 32 pixels from node to node go to the tile kernel, whatever the ratio; all
// other shapes and double scores go to the direct kernels. Results do not depend on the order of
// threads.
#pragma once

#include "common/cuda/launch.cuh"
#include "cross_entropy/cuda/direct.cuh"
#include "cross_entropy/cuda/finish.cuh"
#include "cross_entropy/cuda/tile_kernel.cuh"

namespace fcn_ext {

namespace cross_entropy {

constexpr int kStack = 2;  // small cells per thread

// The tiles of a problem; side 0 if the direct kernels must compute it.
template <typename scalar_t>
TileGrid grid_of(const CrossEntropy& problem) {
  // Labels are held in 16 bits, two values of which are no class.
  return problem.shape.channels <= kInvalidCode
             ? tile_grid<scalar_t, kStack>(problem.shape, problem.input_strides)
             : TileGrid{};
}

// A workspace starts with the sums of total_weight_kernel and a scale of the gradient.
constexpr size_t kTotalsBytes = (kMostTotals + 2) * sizeof(double);

inline int64_t pixels_of(const CrossEntropy& problem) {
  return problem.shape.batch * problem.shape.y.output_size * problem.shape.x.output_size;
}

// Whether the gradient of a mean is scaled after it is computed, because that touches less memory
// than reading the labels first. The gradient must have no gaps between its elements.
inline bool scales_afterwards(const CrossEntropy& problem, const PlaneStrides& gradient) {
  const BilinearShape& shape = problem.shape;
  const int64_t width = shape.x.input_size, plane = shape.y.input_size * width;
  const bool is_planar = gradient.column == 1 && gradient.row == width && gradient.channel == plane;
  const bool is_interleaved = gradient.channel == 1 && gradient.column == shape.channels &&
                              gradient.row == shape.channels * width;
  return (is_planar || is_interleaved) && gradient.batch == shape.channels * plane &&
         2 * static_cast<int64_t>(sizeof(float)) * elements_of(problem) <
             pixels_of(problem) * kLabelBytes[problem.target.type];
}

// The tile kernel's arguments, except for where the losses go.
template <typename scalar_t>
TileArgs tile_args(const CrossEntropy& problem, const TileGrid& grid, const scalar_t* input,
                   const float* weight, float* gradient, const PlaneStrides& gradient_strides,
                   void* workspace) {
  return {softmax_tiles(grid, problem.shape, input, problem.input_strides, gradient,
                        gradient_strides, workspace),
          problem.target,
          problem.ignore_index,
          class_terms(problem, weight),
          {},
          nullptr,
          nullptr,
          {}};
}

inline void launch_tiles(const TileArgs& args, cudaStream_t stream) {
  const bool with_gradient = args.tiles.gradient != nullptr;
  if (args.tiles.grid.count == 0 && args.finish.partials != nullptr) {
    return launch_finish_loss(args.finish, stream);  // no block would come last
  }
  if (with_gradient || args.finish.partials != nullptr) {
    launch_clear_counters(args.tiles, stream);
  }
  with_tile<kStack>(args.tiles.grid.side, args.tiles.grid.small, [&](auto tile) {
    using Tile = decltype(tile);
    const dim3 grid(static_cast<unsigned>(args.tiles.grid.count)), block(Tile::kThreads);
    const bool smoothed = args.terms.smooth != 0;
    if (with_gradient) {
      launch(cross_entropy_tile_kernel<Tile, true>, grid, block,
             LabelShared<Tile, true>::bytes(smoothed), stream, args);
    } else {
      launch(cross_entropy_tile_kernel<Tile, false>, grid, block,
             LabelShared<Tile, false>::bytes(smoothed), stream, args);
    }
  });
}

}  // namespace cross_entropy

// The bytes that launch_cross_entropy needs, aligned to 16.
template <typename scalar_t>
size_t cross_entropy_workspace(const CrossEntropy& problem, bool with_gradient) {
  using namespace cross_entropy;
  const TileGrid grid = grid_of<scalar_t>(problem);
  if (grid.side != 0) {
    return kTotalsBytes + padded_bytes(grid.count, sizeof(PartialLoss)) +
           tiles_workspace(grid, problem.shape.channels, with_gradient);
  }
  const int64_t pixels = pixels_of(problem);
  return kTotalsBytes + padded_bytes(direct_blocks(problem), sizeof(PartialLoss)) +
         (with_gradient ? padded_bytes(pixels, sizeof(PixelSum<accumulate_of<scalar_t>>)) : 0);
}

// loss: the sum over pixels or, for the mean, that divided by total_weight, the sum of their
// labels' weights. gradient: of `loss` with respect to the scores, or null. weight: of the classes,
// or null. An invalid label makes the loss NaN.
template <typename scalar_t>
void launch_cross_entropy(const CrossEntropy& problem, bool mean, const scalar_t* input,
                          const accumulate_of<scalar_t>* weight, accumulate_of<scalar_t>* loss,
                          accumulate_of<scalar_t>* total_weight, accumulate_of<scalar_t>* gradient,
                          const PlaneStrides& gradient_strides, void* workspace,
                          cudaStream_t stream) {
  using namespace cross_entropy;
  using accumulate_t = accumulate_of<scalar_t>;
  const TileGrid grid = grid_of<scalar_t>(problem);
  auto* const totals = static_cast<double*>(workspace);
  auto* const scale = reinterpret_cast<accumulate_t*>(totals + kMostTotals);
  workspace = static_cast<unsigned char*>(workspace) + kTotalsBytes;
  auto* const partials = static_cast<PartialLoss*>(workspace);
  const bool scaled = mean && gradient != nullptr;
  FinishLoss<accumulate_t> finish{partials, 0, mean, loss, total_weight, scaled ? scale : nullptr};
  if constexpr (!std::is_same_v<scalar_t, double>) {
    if (grid.side != 0) {
      finish.count = grid.count;
      void* of_tiles =
          static_cast<unsigned char*>(workspace) + padded_bytes(grid.count, sizeof(PartialLoss));
      TileArgs args = tile_args(problem, grid, input, weight, gradient, gradient_strides, of_tiles);
      args.finish = finish;
      const bool afterwards = scaled && scales_afterwards(problem, gradient_strides);
      if (scaled && !afterwards) {
        args.totals = launch_total_weight(problem, args.terms, totals, stream);
      }
      launch_tiles(args, stream);
      if (afterwards) {
        launch_scale(gradient, elements_of(problem), scale, stream);
      }
      return;
    }
  }
  finish.count = direct_blocks(problem);
  auto* sums = reinterpret_cast<PixelSum<accumulate_t>*>(
      static_cast<unsigned char*>(workspace) + padded_bytes(finish.count, sizeof(PartialLoss)));
  const DirectArgs<scalar_t> args{
      problem, input,    class_terms(problem, weight),         nullptr,
      nullptr, partials, gradient == nullptr ? nullptr : sums, finish.scale};
  launch_direct_loss(args, stream);
  launch_finish_loss(finish, stream);
  if (gradient != nullptr) {
    launch_direct_gradient(args, gradient, gradient_strides, stream);
  }
}

// losses: (N, H, W), zero where the label is ignored.
template <typename scalar_t>
void launch_cross_entropy_pixels(const CrossEntropy& problem, const scalar_t* input,
                                 const accumulate_of<scalar_t>* weight,
                                 accumulate_of<scalar_t>* losses, cudaStream_t stream) {
  using namespace cross_entropy;
  if constexpr (!std::is_same_v<scalar_t, double>) {
    const TileGrid grid = grid_of<scalar_t>(problem);
    if (grid.side != 0) {
      TileArgs args = tile_args(problem, grid, input, weight, nullptr, {}, nullptr);
      args.losses = losses;
      return launch_tiles(args, stream);
    }
  }
  launch_direct_loss<scalar_t>(
      {problem, input, class_terms(problem, weight), nullptr, losses, nullptr, nullptr, nullptr},
      stream);
}

template <typename scalar_t>
size_t cross_entropy_pixels_backward_workspace(const CrossEntropy& problem) {
  using namespace cross_entropy;
  const TileGrid grid = grid_of<scalar_t>(problem);
  return grid.side != 0
             ? tiles_workspace(grid, problem.shape.channels, true)
             : padded_bytes(pixels_of(problem), sizeof(PixelSum<accumulate_of<scalar_t>>));
}

// gradient: of the sum over pixels of grad_output (N, H, W) * loss.
template <typename scalar_t>
void launch_cross_entropy_pixels_backward(
    const CrossEntropy& problem, const accumulate_of<scalar_t>* grad_output, const scalar_t* input,
    const accumulate_of<scalar_t>* weight, accumulate_of<scalar_t>* gradient,
    const PlaneStrides& gradient_strides, void* workspace, cudaStream_t stream) {
  using namespace cross_entropy;
  if constexpr (!std::is_same_v<scalar_t, double>) {
    const TileGrid grid = grid_of<scalar_t>(problem);
    if (grid.side != 0) {
      TileArgs args =
          tile_args(problem, grid, input, weight, gradient, gradient_strides, workspace);
      args.grad_output = grad_output;
      return launch_tiles(args, stream);
    }
  }
  const DirectArgs<scalar_t> args{problem,
                                  input,
                                  class_terms(problem, weight),
                                  grad_output,
                                  nullptr,
                                  nullptr,
                                  static_cast<PixelSum<accumulate_of<scalar_t>>*>(workspace),
                                  nullptr};
  launch_direct_loss(args, stream);
  launch_direct_gradient(args, gradient, gradient_strides, stream);
}

}  // namespace fcn_ext
