// Tiles of the walk (walk.cuh): the nodes and outputs of a mask that a block takes.
#pragma once

#include "common/cuda/launch.cuh"
#include "sigmoid_sums/sigmoid_sums.h"

namespace fcn_ext {
namespace sigmoid_sums {

constexpr int kMostColumns = 448, kMostRows = 512;  // of a tile, outputs
constexpr int64_t kMostNodes = 512;                 // of a tile along one axis
constexpr int64_t kEnoughBlocks = 512;              // fill any device; but kFewNodeRows per tile
constexpr int64_t kFewNodeRows = 4;

// The nodes of a tile along an axis, the number of tiles, and the most outputs of a tile. No tiles:
// one node alone has too many outputs.
struct TileAxis {
  int64_t nodes = 0, tiles = 0, outputs = 0;
};

inline TileAxis tile_axis(const BilinearAxis& axis, int64_t most_outputs, int64_t least_tiles) {
  const int64_t size = axis.input_size;
  int64_t tiles = larger(larger(ceil_divide(axis.output_size, most_outputs), least_tiles),
                         ceil_divide(size, kMostNodes));
  for (; tiles <= size; ++tiles) {
    const int64_t nodes = ceil_divide(size, tiles);
    int64_t outputs = 0;
    for (int64_t first = 0; first < size; first += nodes) {
      outputs = larger(outputs, first_output(axis, first + nodes) - first_output(axis, first - 1));
    }
    if (outputs <= most_outputs) {
      return {nodes, ceil_divide(size, nodes), outputs};
    }
    if (nodes == 1) {
      break;
    }
  }
  return {};
}

struct Walk {
  TileAxis y, x;

  bool possible() const { return y.tiles > 0 && x.tiles > 0 && parts() <= kMostBlocksYZ; }
  int64_t parts() const { return y.tiles * x.tiles; }
  int threads() const {
    return static_cast<int>(larger<int64_t>(ceil_divide(x.outputs, kWarp), 1)) * kWarp;
  }
};

// For accumulation in float; double goes to the direct kernels.
inline Walk walk_of(const SigmoidSums& problem) {
  const BilinearShape& shape = problem.shape;
  Walk walk;
  walk.x = tile_axis(shape.x, kMostColumns, 1);
  const int64_t blocks = larger<int64_t>(1, shape.batch * shape.channels * walk.x.tiles);
  const int64_t least =
      smaller(ceil_divide(kEnoughBlocks, blocks), ceil_divide(shape.y.input_size, kFewNodeRows));
  walk.y = tile_axis(shape.y, kMostRows, larger<int64_t>(1, least));
  return walk;
}

template <typename scalar_t>
bool is_walked(const SigmoidSums& problem) {
  return std::is_same_v<accumulate_of<scalar_t>, float> && walk_of(problem).possible();
}

// A tile's outputs along an axis: the bands of its nodes and of the node before them.
struct TileOutputs {
  int64_t node, begin, end;  // first node; outputs
  int nodes;

  __device__ __forceinline__ TileOutputs(const BilinearAxis& axis, const TileAxis& tiles,
                                         int64_t tile) {
    node = tile * tiles.nodes;
    nodes = static_cast<int>(smaller(tiles.nodes, axis.input_size - node));
    begin = first_output(axis, node - 1);
    end = first_output(axis, node + nodes);
  }
};

}  // namespace sigmoid_sums
}  // namespace fcn_ext
