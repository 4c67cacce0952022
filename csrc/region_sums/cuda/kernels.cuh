// The launchers of region_sums. Shapes with one to 32 pixels from node to node go to the tile
// kernels, whatever the ratio; all other shapes, double scores and squared probabilities go to the
// direct kernels. Results do not depend on the order of threads.
#pragma once

#include "common/cuda/launch.cuh"
#include "region_sums/cuda/direct_backward.cuh"
#include "region_sums/cuda/direct_forward.cuh"
#include "region_sums/cuda/tile_backward.cuh"
#include "region_sums/cuda/tile_forward.cuh"

namespace fcn_ext {

namespace region_sums {

// Each thread computes one element of sums (rows, images, classes) or of losses (2, images), which
// may be null: it adds up the parts of the `blocks` blocks of its image.
inline __global__ void finish_region_sums_kernel(const double* part_sums,
                                                 const BlockLoss* part_losses, int64_t images,
                                                 int64_t classes, int64_t blocks, int rows,
                                                 double* sums, double* losses) {
  const int64_t count = rows * images * classes;
  const int64_t at = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (at < count) {
    const int64_t c = at % classes, n = at / classes % images, row = at / classes / images;
    double sum = 0;
    for (int64_t block = 0; block < blocks; ++block) {
      sum += part_sums[((n * blocks + block) * kRows + row) * classes + c];
    }
    sums[at] = sum;
  } else if (losses != nullptr && at - count < images) {
    double loss = 0, weight = 0;
    for (int64_t block = 0; block < blocks; ++block) {
      const BlockLoss part = part_losses[(at - count) * blocks + block];
      loss += part.loss;
      weight += part.weight;
    }
    losses[kLoss * images + at - count] = loss;
    losses[kTotalWeight * images + at - count] = weight;
  }
}

// The tiles of a problem; side 0 if the direct kernels must compute it.
template <typename scalar_t>
TileGrid grid_of(const RegionSums& problem, bool squared) {
  // Labels are held in 16 bits, two values of which are no class.
  return !squared && problem.shape.channels <= kInvalidCode
             ? tile_grid<scalar_t, 1>(problem.shape, problem.input_strides)
             : TileGrid{};
}

inline int64_t blocks_of(const RegionSums& problem, const TileGrid& grid) {
  return grid.side != 0 ? int64_t{grid.rows} * grid.columns : blocks_of_image(problem.shape);
}

template <typename scalar_t>
TileArgs tile_args(const RegionSums& problem, const TileGrid& grid, const scalar_t* input,
                   const float* weight, float* gradient, const PlaneStrides& gradient_strides,
                   void* workspace) {
  return {softmax_tiles(grid, problem.shape, input, problem.input_strides, gradient,
                        gradient_strides, workspace),
          problem.target,
          problem.ignore_index,
          {weight, 1, 0, static_cast<int32_t>(problem.shape.channels)},
          {},
          nullptr,
          nullptr,
          {}};
}

template <typename Tile>
constexpr size_t kForwardBytes =
    (cross_entropy::LabelShared<Tile, true>::kBytes + 15) / 16 * 16 + kOwnBytes<Tile>;

}  // namespace region_sums

// The bytes that launch_region_sums needs, aligned to 16.
template <typename scalar_t>
size_t region_sums_workspace(const RegionSums& problem, bool squared) {
  using namespace region_sums;
  const auto parts = static_cast<size_t>(problem.shape.batch *
                                         blocks_of(problem, grid_of<scalar_t>(problem, squared)));
  return parts *
         (sizeof(BlockLoss) + static_cast<size_t>(problem.shape.channels) * kRows * sizeof(double));
}

// sums: (3 or 4, N, C); losses: (2, N), or null. weight: of the classes, or null. An invalid label
// makes the probabilities and the loss of its image NaN.
template <typename scalar_t>
void launch_region_sums(const RegionSums& problem, bool squared, const scalar_t* input,
                        const accumulate_of<scalar_t>* weight, double* sums, double* losses,
                        void* workspace, cudaStream_t stream) {
  using namespace region_sums;
  const BilinearShape& shape = problem.shape;
  const TileGrid grid = grid_of<scalar_t>(problem, squared);
  const int64_t blocks = blocks_of(problem, grid);
  auto* part_losses = static_cast<BlockLoss*>(workspace);
  auto* part_sums = reinterpret_cast<double*>(part_losses + shape.batch * blocks);
  if constexpr (!std::is_same_v<scalar_t, double>) {
    if (grid.side != 0) {
      const TileForward args{tile_args(problem, grid, input, weight, nullptr, {}, nullptr),
                             losses != nullptr, part_sums, part_losses};
      with_tile<1>(grid.side, grid.small, [&](auto tile) {
        using Tile = decltype(tile);
        launch(region_sums_tile_kernel<Tile>, dim3(static_cast<unsigned>(grid.count)),
               dim3(Tile::kThreads), kForwardBytes<Tile>, stream, args);
      });
    }
  }
  if (grid.side == 0) {
    launch_direct_sums<scalar_t>(
        {problem, input, weight, squared, losses != nullptr, blocks, part_sums, part_losses},
        stream);
  }
  const int rows = squared ? 4 : 3;
  const int64_t elements =
      rows * shape.batch * shape.channels + (losses != nullptr ? shape.batch : 0);
  launch(finish_region_sums_kernel, dim3(blocks_along_x(ceil_divide(elements, kDirectThreads))),
         dim3(kDirectThreads), 0, stream, part_sums, part_losses, shape.batch, shape.channels,
         blocks, rows, sums, losses);
}

template <typename scalar_t>
size_t region_sums_backward_workspace(const RegionSums& problem, bool squared) {
  using namespace region_sums;
  using Pixel = RegionPixel<accumulate_of<scalar_t>>;
  const BilinearShape& shape = problem.shape;
  const TileGrid grid = grid_of<scalar_t>(problem, squared);
  if (grid.side != 0) {
    return tiles_workspace(grid, shape.channels, true);
  }
  return static_cast<size_t>(images_at_once(shape, sizeof(Pixel)) * shape.y.output_size *
                             shape.x.output_size) *
         sizeof(Pixel);
}

// grad_sums: (3 or 4, N, C), grad_losses: (2, N) or null.
template <typename scalar_t>
void launch_region_sums_backward(const RegionSums& problem, bool squared,
                                 const accumulate_of<scalar_t>* grad_sums,
                                 const accumulate_of<scalar_t>* grad_losses, const scalar_t* input,
                                 const accumulate_of<scalar_t>* weight,
                                 accumulate_of<scalar_t>* gradient,
                                 const PlaneStrides& gradient_strides, void* workspace,
                                 cudaStream_t stream) {
  using namespace region_sums;
  if constexpr (!std::is_same_v<scalar_t, double>) {
    const TileGrid grid = grid_of<scalar_t>(problem, squared);
    if (grid.side != 0) {
      const TileBackward args{
          tile_args(problem, grid, input, weight, gradient, gradient_strides, workspace), grad_sums,
          grad_losses, problem.shape.batch};
      with_tile<1>(grid.side, grid.small, [&](auto tile) {
        using Tile = decltype(tile);
        launch_clear_counters(args.tile.tiles, stream);
        launch(region_gradient_tile_kernel<Tile>, dim3(static_cast<unsigned>(grid.count)),
               dim3(Tile::kThreads), size_t{cross_entropy::LabelShared<Tile, true>::kBytes}, stream,
               args);
      });
      return;
    }
  }
  launch_direct_gradient<scalar_t>({problem, input, weight, grad_sums, grad_losses, squared, 0,
                                    static_cast<RegionPixel<accumulate_of<scalar_t>>*>(workspace)},
                                   gradient, gradient_strides, stream);
}

}  // namespace fcn_ext
