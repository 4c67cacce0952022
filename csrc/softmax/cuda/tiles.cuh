// How a kernel of progressions cuts its work: cells, tiles of cells, and who owns which node.
//
// Cell q of an axis lies between the nodes q - 1 and q; the pixels in it are equally far apart, a
// few more or less from cell to cell where the ratio is not whole. A tile is a block's cells; the
// nodes around them are its nodes, those on its rim also a neighbor's. A block writes the gradient
// of the nodes inside, and its part of that of the rim to a workspace, where parts are added up by
// the last block that has one (rims.cuh).
#pragma once

#include "bilinear/bilinear.h"
#include "cells/cuda/staging.cuh"
#include "common/cuda/device.cuh"
#include "common/logarithms.h"

namespace fcn_ext {
namespace softmax {

// The tile of cells of up to side x side pixels: a thread takes up to 8 x 8 of them, kLanes
// neighboring threads one cell. Where cells are small, a thread may take a stack of them, one above
// the other, and load the nodes between them once.
template <int side, int stack = 1, int threads = 128>
struct CellTile {
  static constexpr int kCellSide = side;
  static constexpr int kSide = side < 8 ? side : 8;
  static constexpr int kPixels = kSide * kSide;  // of a thread in one cell
  static constexpr int kSegments = side / kSide;
  static constexpr int kLanes = kSegments * kSegments;
  static constexpr int kStack = stack;
  static_assert(kStack == 1 || (kStack == 2 && kLanes == 1));
  static constexpr int kThreads = threads;
  static constexpr int kHeight = kStack * kSide;      // rows of a thread's pixels
  static constexpr int kOwnPixels = kHeight * kSide;  // of a thread
  static constexpr int kStacks = kThreads / kLanes;
  static constexpr int kCells = kStack * kStacks;
  static constexpr int kRows = kStack * (kStacks == 128  ? 8
                                         : kStacks == 96 ? 6
                                         : kStacks == 32 ? 4
                                                         : 2);
  static constexpr int kColumns = kCells / kRows;
  static constexpr int kClasses =
      kStack == 1 || kThreads < 128 ? 6 : 5;  // staged in shared memory at once
  static constexpr int kNodeColumns = kColumns + 1;
  static constexpr int kNodes = (kRows + 1) * kNodeColumns;
  static constexpr int kRim = 2 * (kRows + kColumns);  // nodes
  static constexpr int kCorners = 2 * (kStack + 1);    // nodes around a stack

  // Nodes are numbered row by row: first the rows between stacks, then those inside of them.
  static constexpr int kOuterRows = kRows / kStack + 1;
  static constexpr int kOuter = kOuterRows * kNodeColumns, kInner = kNodes - kOuter;
  __device__ __forceinline__ static int node_at(int row, int column) {
    const int outer = row / kStack, inner = row % kStack;
    return (inner == 0 ? outer : kOuterRows + outer) * kNodeColumns + column;
  }
  __device__ __forceinline__ static int row_of(int node) {
    const int row = node / kNodeColumns;
    return row < kOuterRows ? kStack * row : kStack * (row - kOuterRows) + 1;
  }
  // From the node at the top left of a stack to its corner k: left and right, from top to bottom.
  __host__ __device__ static constexpr int to_corner(int k) {
    return (k / 2 == 0 ? 0 : k / 2 == kStack ? kNodeColumns : kOuter) + k % 2;
  }

  // Where nodes are staged: as they are numbered; those of stacks in rows of whole vectors, of
  // which the first one ends with the first node.
  static constexpr int kLead = kStack == 1 ? 0 : 3;
  static constexpr int kPitch = kStack == 1 ? kNodeColumns : (kLead + kNodeColumns + 3) / 4 * 4;
  // Of stacks such that those of classes lie in other banks.
  static constexpr int kSlots = kStack == 1 ? kNodes : (kRows + 1) * kPitch + 4;
  __device__ __forceinline__ static int slot_of(int node) {
    return kStack == 1 ? node : node / kNodeColumns * kPitch + kLead + node % kNodeColumns;
  }
  __device__ __forceinline__ static int top_left_slot(unsigned index) {
    return static_cast<int>(index / kColumns * kPitch + kLead + index % kColumns);
  }
  __host__ __device__ static constexpr int to_slot(int k) {
    return (k / 2 == 0 ? 0 : k / 2 == kStack ? kPitch : kOuterRows * kPitch) + k % 2;
  }

  // The sums of a class at the corners of stacks: floats a class, so that those of neighboring
  // nodes' classes lie in different banks. With one cell a stack, stack by stack for each corner,
  // and then a zero; else node by node, for nodes as the top left, top right, bottom left and
  // bottom right corner of a stack, and then for those inside, as a left and a right one.
  static constexpr int kCornerPitch =
      kStack == 1 ? 4 * kStacks + kClasses : (4 * kOuter + 2 * kInner + 7) / 8 * 8;
  // From the place of a stack's first sum to that of corner k.
  __host__ __device__ static constexpr int to_sum(int k) {
    return kStack == 1       ? k * kStacks
           : k / 2 == 0      ? k % 2 * kOuter + to_corner(k)
           : k / 2 == kStack ? (2 + k % 2) * kOuter + to_corner(k)
                             : 4 * kOuter + k % 2 * kInner + k % 2;
  }

  // Blocks that a multiprocessor is to hold: as many as spare their threads a spill.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
  static constexpr int kBlocks = side < 8 ? 512 / kThreads : 3;
#else
  static constexpr int kBlocks = side <= 8 ? 512 / kThreads : 3;
#endif

  // Which cell of its stack a row of a thread's pixels lies in.
  __device__ __forceinline__ static int which_of(int row) { return kStack == 1 ? 0 : row / kSide; }
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

// Where it is in a tile: the node at the top left of a stack of cells.
template <typename Tile>
__device__ __forceinline__ int top_left_of(unsigned stack) {
  return static_cast<int>(stack / Tile::kColumns * Tile::kNodeColumns + stack % Tile::kColumns);
}

struct TileGrid {
  int side;    // of CellTile; 0: the shape is not for these kernels
  bool small;  // whether a tile has fewer threads, as where there are few of them
  BilinearAxis y, x;
  PixelSteps steps;
  int rows, columns;  // of tiles in an image
  int64_t count;      // in all
  int rim;            // nodes
};

// With fewer tiles than this, tiles of cells of four pixels are small: multiprocessors share more
// of them more evenly, which is worth more than the nodes that neighbors share.
constexpr int64_t kFewTiles = 2048;

// Calls body(CellTile<side>()), where cells are small with a stack of them a thread.
template <int stack, typename Body>
auto with_tile(int side, bool small, const Body& body) {
  switch (side) {
    case 2:
      return body(CellTile<2, stack>());
    case 4:
      if constexpr (stack > 1) {
        if (small) {
          return body(CellTile<4, stack, 96>());
        }
      }
      return body(CellTile<4, stack>());
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

template <typename scalar_t, int stack>
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
  const auto cut = [&](bool small) {
    grid.small = small;
    with_tile<stack>(grid.side, small, [&](auto tile) {
      using Tile = decltype(tile);
      grid.rows = static_cast<int>(ceil_divide(grid.y.input_size + 1, Tile::kRows));
      grid.columns = static_cast<int>(ceil_divide(grid.x.input_size + 1, Tile::kColumns));
      grid.rim = Tile::kRim;
    });
    grid.count = shape.batch * grid.rows * grid.columns;
  };
  cut(false);
  if (grid.count < kFewTiles) {
    cut(true);
  }
  // Elements from class to class are counted in 32 bits, too, and those of a tile's rim.
  const int64_t plane = larger(grid.y.input_size * grid.x.input_size, input_strides.channel);
  const int64_t most = larger(grid.count, larger(plane, grid.rim * shape.channels));
  return most <= INT32_MAX ? grid : TileGrid{};
}

// Parts of a workspace are aligned to 16 bytes.
inline size_t padded_bytes(int64_t count, size_t size) {
  return (static_cast<size_t>(count) * size + 15) / 16 * 16;
}

// The engine's workspace, see rims.cuh: counters of a launch, that of all blocks and with a
// gradient those of each tile, its right edge, bottom edge and bottom right corner; then the rims.
constexpr int kTileCounters = 3;
inline int64_t counters_of(const TileGrid& grid, bool with_gradient) {
  return 1 + (with_gradient ? kTileCounters * grid.count : 0);
}
inline size_t tiles_workspace(const TileGrid& grid, int64_t classes, bool with_gradient) {
  return padded_bytes(counters_of(grid, with_gradient), sizeof(unsigned)) +
         (with_gradient ? padded_bytes(grid.count * classes * grid.rim, sizeof(float)) : 0);
}

// What the engine's part of a kernel is handed.
struct SoftmaxTiles {
  TileGrid grid;
  int64_t images;
  int32_t classes;
  const void* input;
  int type;  // of the scores: 0 float, 2 half, 3 bfloat16
  PlaneStrides input_strides;
  bool vectors;     // whether the scores of a row can be copied four at a time
  float* gradient;  // or null
  PlaneStrides gradient_strides;
  float* rims;         // of each tile its part, (classes, rim), or (rim, classes) where interleaved
  unsigned* counters;  // of blocks that meet, see rims.cuh

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
bool has_vectors(const scalar_t* input, const PlaneStrides& strides) {
  return std::is_same_v<scalar_t, float> && strides.column == 1 &&
         (strides.row | strides.channel | strides.batch) % 4 == 0 &&
         reinterpret_cast<uintptr_t>(input) % 16 == 0;
}

// workspace: of tiles_workspace(), or null where there is neither a gradient nor anything that the
// last block does.
template <typename scalar_t>
SoftmaxTiles softmax_tiles(const TileGrid& grid, const BilinearShape& shape, const scalar_t* input,
                           const PlaneStrides& input_strides, float* gradient,
                           const PlaneStrides& gradient_strides, void* workspace) {
  auto* const bytes = static_cast<unsigned char*>(workspace);
  float* const rims = gradient == nullptr
                          ? nullptr
                          : reinterpret_cast<float*>(
                                bytes + padded_bytes(counters_of(grid, true), sizeof(unsigned)));
  return {grid,
          shape.batch,
          static_cast<int32_t>(shape.channels),
          input,
          kElementType<scalar_t>,
          input_strides,
          has_vectors(input, input_strides),
          gradient,
          gradient_strides,
          rims,
          static_cast<unsigned*>(workspace)};
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
  static constexpr int kAround = 0;  // four int32 a node
  static constexpr int kInput =
      kAround + (Tile::kStack == 1 ? 16 * Tile::kNodes : 0);  // int64 a node
  static constexpr int kOutput = kInput + 8 * Tile::kNodes;   // pointer a node
  static constexpr int kExact = kOutput + 8 * Tile::kNodes;   // uint64 a thread: pixels to redo
  static constexpr int kScratch = kExact + 8 * Tile::kThreads;
  static constexpr int kStaged = kScratch + 8 * Tile::kThreads;
  static constexpr int kStagedBytes = 4 * Tile::kClasses * Tile::kSlots;
  static constexpr int kMaxima = kStaged + 2 * kStagedBytes;  // float a node, as staged
  // {Part::j, Part::y_step} of a row of parts, {Part::i, Part::x_step} of a column
  static constexpr int kPartY = (kMaxima + 4 * Tile::kSlots + 15) / 16 * 16;
  static constexpr int kPartX = kPartY + 8 * kRowParts;
  static constexpr int kRowBegins = kPartX + 8 * kColumnParts;  // int32 a row of cells, one more
  static constexpr int kColumnBegins = kRowBegins + 4 * (Tile::kRows + 1);      // likewise
  static constexpr int kOutputStep = kColumnBegins + 4 * (Tile::kColumns + 1);  // int32 a node
  static constexpr int kPlace = kOutputStep + 4 * Tile::kNodes;                 // three int
  static constexpr int kFlags = kPlace + 12;                                    // two int
  static constexpr int kEnded = kFlags + 8;                                     // unsigned
  static constexpr int kNodesThere = kEnded + 4;                                // int
  static constexpr int kNodeOf = kNodesThere + 4;                               // uint16 a thread
  static constexpr int kStackOf = kNodeOf + 2 * Tile::kThreads;                 // uint8 a thread
  static constexpr int kVectorOf = kStackOf + Tile::kThreads;                   // uint8 a thread
  static constexpr int kCorners =
      Tile::kStack == 1 ? kNodesThere
                        : (kVectorOf + Tile::kThreads + 15) / 16 * 16;  // float a class and place
  static constexpr int kBytes =
      (kCorners + (with_gradient ? 4 * Tile::kClasses * Tile::kCornerPitch : 0) + 15) / 16 * 16;
};

}  // namespace softmax
}  // namespace fcn_ext
