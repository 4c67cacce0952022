// How a kernel of progressions cuts its work: cells, tiles of cells, and who owns which node.
//
// Cell q of an axis lies between the nodes q - 1 and q; the pixels in it are equally far apart, a
// few more or less from cell to cell where the ratio is not whole. A tile is a block's cells; the
// nodes around them are its nodes, those on its rim also a neighbor's. A block writes the gradient
// of the nodes inside, and its part of that of the rim to a workspace, from where a second kernel
// adds the parts up.
#pragma once

#include "bilinear/bilinear.h"
#include "cells/cuda/staging.cuh"
#include "common/cuda/device.cuh"
#include "common/logarithms.h"

namespace fcn_ext {
namespace softmax {

constexpr int kTileThreads = 128;
constexpr int kTileClasses = 6;  // staged in shared memory at once

// The tile of cells of up to side x side pixels: a thread takes up to 8 x 8 of them, kLanes
// neighboring threads one cell.
template <int side>
struct CellTile {
  static constexpr int kCellSide = side;
  static constexpr int kSide = side < 8 ? side : 8;
  static constexpr int kPixels = kSide * kSide;
  static constexpr int kSegments = side / kSide;
  static constexpr int kLanes = kSegments * kSegments;
  static constexpr int kCells = kTileThreads / kLanes;
  static constexpr int kRows = kCells == 128 ? 8 : kCells == 32 ? 4 : 2;
  static constexpr int kColumns = kCells / kRows;
  static constexpr int kNodeColumns = kColumns + 1;
  static constexpr int kNodes = (kRows + 1) * kNodeColumns;
  static constexpr int kRim = 2 * (kRows + kColumns);  // nodes
  // Floats a class, of which the first behind those of the cells is zero. The sums of neighboring
  // nodes' classes lie in different banks.
  static constexpr int kCornerPitch = 4 * kCells + kTileClasses;
  // Blocks that a multiprocessor is to hold: as many as spare their threads a spill.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
  static constexpr int kBlocks = side < 8 ? 6 : 3;
#else
  static constexpr int kBlocks = side < 8 ? 6 : side == 8 ? 4 : 3;
#endif
};

// Where a rim node's part of a gradient is kept, in [0, kRim): the top row, the bottom row, the
// left and the right column.
template <typename Tile>
__device__ __forceinline__ int rim_slot(int row, int column) {
  if (row == 0 || row == Tile::kRows) {
    return (row == 0 ? 0 : Tile::kNodeColumns) + column;
  }
  return 2 * Tile::kNodeColumns + (column == 0 ? 0 : Tile::kRows - 1) + row - 1;
}

// From one pixel to the next: in nodes, and what a nat between two nodes is then in bits.
struct PixelSteps {
  float x, y;
  float x_bits, y_bits, xy_bits;
};

inline PixelSteps pixel_steps(const BilinearAxis& y_axis, const BilinearAxis& x_axis) {
  const double x = weight_step(x_axis), y = weight_step(y_axis);
  return {static_cast<float>(x), static_cast<float>(y), static_cast<float>(x * kLog2E),
          static_cast<float>(y * kLog2E), static_cast<float>(x * y * kLog2E)};
}

// Where it is in a tile: the node at the top left of a cell.
template <typename Tile>
__device__ __forceinline__ int top_left_of(unsigned cell) {
  return static_cast<int>(cell / Tile::kColumns * Tile::kNodeColumns + cell % Tile::kColumns);
}

struct TileGrid {
  int side;  // of CellTile; 0: the shape is not for these kernels
  BilinearAxis y, x;
  PixelSteps steps;
  int rows, columns;  // of tiles in an image
  int64_t count;      // in all
  int rim;            // nodes
};

// Calls body(CellTile<side>()).
template <typename Body>
auto with_tile(int side, const Body& body) {
  switch (side) {
    case 2:
      return body(CellTile<2>());
    case 4:
      return body(CellTile<4>());
    case 8:
      return body(CellTile<8>());
    case 16:
      return body(CellTile<16>());
    default:
      return body(CellTile<32>());
  }
}

// The side of the tile that holds a cell of an axis; 0 where cells may have no pixel, or too many.
inline int tile_side(const BilinearAxis& axis) {
  if (has_empty_cells(axis) || axis.output_size > INT32_MAX) {
    return 0;
  }
  for (const int side : {2, 4, 8, 16, 32}) {
    if (most_outputs_of_cell(axis) <= side) {
      return side;
    }
  }
  return 0;
}

template <typename scalar_t>
TileGrid tile_grid(const BilinearShape& shape, const PlaneStrides& input_strides) {
  const int y_side = tile_side(shape.y), x_side = tile_side(shape.x);
  if (std::is_same_v<scalar_t, double> || y_side == 0 || x_side == 0) {
    return {};
  }
  TileGrid grid{};
  grid.side = larger(y_side, x_side);
  grid.y = shape.y;
  grid.x = shape.x;
  grid.steps = pixel_steps(shape.y, shape.x);
  with_tile(grid.side, [&](auto tile) {
    using Tile = decltype(tile);
    grid.rows = static_cast<int>(ceil_divide(grid.y.input_size + 1, Tile::kRows));
    grid.columns = static_cast<int>(ceil_divide(grid.x.input_size + 1, Tile::kColumns));
    grid.rim = Tile::kRim;
  });
  grid.count = shape.batch * grid.rows * grid.columns;
  // Nodes between tiles are counted in 32 bits, too, elements from class to class, and those of a
  // tile's rim for two tiles.
  const int64_t between = grid.rows * grid.x.input_size + grid.columns * grid.y.input_size;
  const int64_t plane = larger(grid.y.input_size * grid.x.input_size, input_strides.channel);
  const int64_t rims = 2 * grid.rim * shape.channels;
  const int64_t most = larger(larger(grid.count, between), larger(plane, rims));
  return most <= INT32_MAX ? grid : TileGrid{};
}

// What the engine's part of a kernel is handed.
struct SoftmaxTiles {
  TileGrid grid;
  int64_t images;
  int32_t classes;
  const void* input;
  int type;  // of the scores: 0 float, 2 half, 3 bfloat16
  PlaneStrides input_strides;
  float* gradient;  // or null
  PlaneStrides gradient_strides;
  float* rims;  // of each tile its part, (classes, rim), or (rim, classes) where interleaved

  // Whether the classes of a node lie side by side in the gradient.
  __host__ __device__ __forceinline__ bool interleaved() const {
    return gradient_strides.channel == 1;
  }
  // From a node on the rim to the next one, and from class to class.
  __device__ __forceinline__ int32_t rim_step() const { return interleaved() ? classes : 1; }
  template <typename Tile>
  __device__ __forceinline__ int32_t rim_class_step() const {
    return interleaved() ? 1 : Tile::kRim;
  }
};

template <typename scalar_t>
SoftmaxTiles softmax_tiles(const TileGrid& grid, const BilinearShape& shape, const scalar_t* input,
                           const PlaneStrides& input_strides, float* gradient,
                           const PlaneStrides& gradient_strides, void* rims) {
  return {grid,
          shape.batch,
          static_cast<int32_t>(shape.channels),
          input,
          kElementType<scalar_t>,
          input_strides,
          gradient,
          gradient_strides,
          static_cast<float*>(rims)};
}

__device__ __forceinline__ float score_at(const SoftmaxTiles& tiles, int64_t offset) {
  float score = 0;
  with_scores(tiles.input, tiles.type,
              [&](const auto* scores) { score = static_cast<float>(scores[offset]); });
  return score;
}

// The engine's part of a block's shared memory, byte offsets of its arrays: those of 64-bit numbers
// first. What a kernel adds starts at kBytes, a multiple of sixteen.
template <typename Tile, bool with_gradient>
struct NodeShared {
  static constexpr int kRowParts = Tile::kRows * Tile::kSegments;
  static constexpr int kColumnParts = Tile::kColumns * Tile::kSegments;
  static constexpr int kAround = 0;                           // four int32 a node
  static constexpr int kInput = kAround + 16 * Tile::kNodes;  // int64 a node
  static constexpr int kOutput = kInput + 8 * Tile::kNodes;   // pointer a node
  static constexpr int kExact = kOutput + 8 * Tile::kNodes;   // uint64 a thread: pixels to redo
  static constexpr int kScratch = kExact + 8 * kTileThreads;
  static constexpr int kStaged = kScratch + 8 * kTileThreads;
  static constexpr int kStagedBytes = 4 * kTileClasses * Tile::kNodes;
  static constexpr int kMaxima = kStaged + 2 * kStagedBytes;     // float a node
  static constexpr int kRowBegins = kMaxima + 4 * Tile::kNodes;  // int32 a row of cells, one more
  static constexpr int kColumnBegins = kRowBegins + 4 * (Tile::kRows + 1);  // likewise
  static constexpr int kPartY =
      kColumnBegins + 4 * (Tile::kColumns + 1);                  // two float a row of parts
  static constexpr int kPartX = kPartY + 8 * kRowParts;          // likewise
  static constexpr int kOutputStep = kPartX + 8 * kColumnParts;  // int32 a node
  static constexpr int kPlace = kOutputStep + 4 * Tile::kNodes;  // three int
  static constexpr int kFlags = kPlace + 12;                     // two int
  static constexpr int kCorners = kFlags + 8;                    // float a class, corner and cell
  static constexpr int kBytes =
      (kCorners + (with_gradient ? 4 * kTileClasses * Tile::kCornerPitch : 0) + 15) / 16 * 16;
};

}  // namespace softmax
}  // namespace fcn_ext
