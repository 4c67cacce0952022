// How a kernel of progressions cuts its work: cells, tiles of cells, and who owns which node.
//
// Cell k of an axis lies between the nodes k - 1 and k and holds `stride` pixels, cell 0 and cell
// `nodes` half of them beyond the border. A tile is a block's cells; the nodes around them are its
// nodes, those on its rim also a neighbor's. A block writes the gradient of the nodes inside, and
// its part of that of the rim to a workspace, from where a second kernel adds the parts up.
#pragma once

#include "bilinear/bilinear.h"
#include "cells/cuda/staging.cuh"
#include "common/cuda/device.cuh"

namespace fcn_ext {
namespace softmax {

constexpr int kTileThreads = 128;
constexpr int kTileClasses = 6;  // staged in shared memory at once

// An axis as cells of `stride` pixels each: [cell * stride - offset, + stride) of `outputs`, in the
// middle of a cell's equal parts.
struct StrideAxis {
  int64_t nodes, outputs, offset;
  bool clamp;
};

// False, and nothing written, where the axis is not so.
inline bool stride_axis(const BilinearAxis& axis, int64_t stride, StrideAxis& cells) {
  const int64_t offset = centered_offset(axis, stride);
  if (offset < 0) {
    return false;
  }
  cells = {axis.input_size, axis.output_size, offset, axis.clamp};
  return true;
}

// The tile of a stride: a thread takes up to 8 x 8 pixels of a cell, kLanes neighboring threads
// one cell.
template <int stride>
struct CellTile {
  static constexpr int kStride = stride;
  static constexpr int kSide = stride < 8 ? stride : 8;
  static constexpr int kPixels = kSide * kSide;
  static constexpr int kSegments = stride / kSide;
  static constexpr int kLanes = kSegments * kSegments;
  static constexpr int kCells = kTileThreads / kLanes;
  static constexpr int kRows = kCells == 128 ? 8 : kCells == 32 ? 4 : 2;
  static constexpr int kColumns = kCells / kRows;
  static constexpr int kNodeColumns = kColumns + 1;
  static constexpr int kNodes = (kRows + 1) * kNodeColumns;
  static constexpr int kRim = 2 * (kRows + kColumns);  // nodes
  static constexpr int kCornerPitch = 4 * kCells + 1;  // floats a class; the last one is zero
  // Blocks that a multiprocessor is to hold: as many as spare their threads a spill.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
  static constexpr int kBlocks = stride < 8 ? 6 : 3;
#else
  static constexpr int kBlocks = stride < 8 ? 6 : stride == 8 ? 4 : 3;
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

struct TileGrid {
  int stride;  // 0: the shape is not for these kernels
  StrideAxis y, x;
  int rows, columns;  // of tiles in an image
  int64_t count;      // in all
  int rim;            // nodes
};

// Calls body(CellTile<stride>()).
template <typename Body>
auto with_tile(int stride, const Body& body) {
  switch (stride) {
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

template <typename scalar_t>
TileGrid tile_grid(const BilinearShape& shape) {
  TileGrid grid{};
  for (const int stride : {2, 4, 8, 16, 32}) {
    if (!std::is_same_v<scalar_t, double> && stride_axis(shape.y, stride, grid.y) &&
        stride_axis(shape.x, stride, grid.x)) {
      grid.stride = stride;
    }
  }
  if (grid.stride == 0) {
    return {};
  }
  with_tile(grid.stride, [&](auto tile) {
    using Tile = decltype(tile);
    grid.rows = static_cast<int>(ceil_divide(grid.y.nodes + 1, Tile::kRows));
    grid.columns = static_cast<int>(ceil_divide(grid.x.nodes + 1, Tile::kColumns));
    grid.rim = Tile::kRim;
  });
  grid.count = shape.batch * grid.rows * grid.columns;
  return grid.count <= 0x7fffffff ? grid : TileGrid{};
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
  float* rims;  // (tiles, classes, rim)
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
// first. What a kernel adds starts at kBytes, a multiple of eight.
template <typename Tile, bool with_gradient>
struct NodeShared {
  static constexpr int kInput = 0;                           // int64 a node: its scores, or kNoNode
  static constexpr int kOutput = kInput + 8 * Tile::kNodes;  // its gradient, likewise
  static constexpr int kAround = kOutput + 8 * Tile::kNodes;  // four uint16 a node
  static constexpr int kExact = kAround + 8 * Tile::kNodes;   // uint64 a thread: pixels to redo
  static constexpr int kScratch = kExact + 8 * kTileThreads;
  static constexpr int kStaged = kScratch + 8 * kTileThreads;
  static constexpr int kStagedBytes = 4 * kTileClasses * Tile::kNodes;
  static constexpr int kMaxima = kStaged + 2 * kStagedBytes;  // float a node
  static constexpr int kFlags = kMaxima + 4 * Tile::kNodes;   // two int
  static constexpr int kCorners = kFlags + 8;                 // float a class, corner and cell
  static constexpr int kBorders =                             // a byte a node
      kCorners + (with_gradient ? 4 * kTileClasses * Tile::kCornerPitch : 0);
  static constexpr int kBytes = (kBorders + Tile::kNodes + 7) / 8 * 8;
};

}  // namespace softmax
}  // namespace fcn_ext
