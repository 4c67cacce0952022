// How a kernel of progressions cuts its work: cells, tiles of cells, and who owns which node.
//
// Cell q of an axis lies between nodes q - 1 and q. Its pixels are equally far apart; if the ratio
// is not whole, cells differ a little in how many they have. A tile is the cells of one block. The
// nodes around them are its nodes; a node on its rim also belongs to a neighbor. A block writes the
// gradient of the nodes inside, and leaves its part of the rim's gradient in a workspace, where the
// last block that has a part adds up all parts (rims.cuh).
#pragma once

#include "bilinear/bilinear.h"
#include "cells/cuda/staging.cuh"
#include "common/cuda/device.cuh"
#include "common/logarithms.h"

namespace fcn_ext {
namespace softmax {

// A tile of cells of up to side x side pixels. A thread takes up to 8 x 8 of them, so kLanes
// neighboring threads share a cell. Where cells are small, a thread may take a stack of them, one
// above the other, and load the nodes between them once.
template <int side, int stack = 1, int threads = 128>
struct CellTile {
  static constexpr int kCellSide = side;
  static constexpr int kSide = side < 8 ? side : 8;
  static constexpr int kPixels = kSide * kSide;  // per thread and cell
  static constexpr int kSegments = side / kSide;
  static constexpr int kLanes = kSegments * kSegments;
  static constexpr int kStack = stack;
  static_assert(kStack == 1 || (kStack == 2 && kLanes == 1));
  static constexpr int kThreads = threads;
  static constexpr int kHeight = kStack * kSide;      // rows of a thread's pixels
  static constexpr int kOwnPixels = kHeight * kSide;  // per thread
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

  // Nodes are numbered row by row: first the rows between stacks, then the rows inside them.
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
  // From the top left node of a stack to its corner k: left before right, from top to bottom.
  __host__ __device__ static constexpr int to_corner(int k) {
    return (k / 2 == 0 ? 0 : k / 2 == kStack ? kNodeColumns : kOuter) + k % 2;
  }

  // Where nodes are staged: in the order of their numbers, or, with stacks, in rows of whole
  // vectors, the first of which ends with the first node.
  static constexpr int kLead = kStack == 1 ? 0 : 3;
  static constexpr int kPitch = kStack == 1 ? kNodeColumns : (kLead + kNodeColumns + 3) / 4 * 4;
  // With stacks, padded so that neighboring classes lie in different banks.
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

  // The sums of a class at the corners of stacks: the floats per class, such that neighboring
  // nodes' classes lie in different banks. With one cell per stack, sums are in order of corner,
  // then stack, followed by a zero. Otherwise they are in order of nodes: for each as the top left,
  // top right, bottom left and bottom right corner of a stack, then for those inside stacks as a
  // left and a right corner.
  static constexpr int kCornerPitch =
      kStack == 1 ? 4 * kStacks + kClasses : (4 * kOuter + 2 * kInner + 7) / 8 * 8;
  // From the first sum of a stack to that of its corner k.
  __host__ __device__ static constexpr int to_sum(int k) {
    return kStack == 1       ? k * kStacks
           : k / 2 == 0      ? k % 2 * kOuter + to_corner(k)
           : k / 2 == kStack ? (2 + k % 2) * kOuter + to_corner(k)
                             : 4 * kOuter + k % 2 * kInner + k % 2;
  }

  // Blocks per multiprocessor to ask for: as many as leave threads enough registers not to spill.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
  static constexpr int kBlocks = side < 8 ? 512 / kThreads : 3;
#else
  static constexpr int kBlocks = side <= 8 ? 512 / kThreads : 3;
#endif

  // The cell of its stack in which a row of a thread's pixels lies.
  __device__ __forceinline__ static int which_of(int row) { return kStack == 1 ? 0 : row / kSide; }
};

// The slot of a rim node's part of a gradient, in [0, kRim). Order: top row, bottom row, left
// column, right column.
template <typename Tile>
__device__ __forceinline__ int rim_slot(int row, int column) {
  if (row == 0 || row == Tile::kRows) {
    return (row == 0 ? 0 : Tile::kNodeColumns) + column;
  }
  return 2 * Tile::kNodeColumns + (column == 0 ? 0 : Tile::kRows - 1) + row - 1;
}

// From one pixel to the next: in nodes, and in bits if the nodes differ by one nat.
struct PixelSteps {
  float x, y;
  float x_bits, y_bits, xy_bits;
};

inline PixelSteps pixel_steps(const BilinearAxis& y_axis, const BilinearAxis& x_axis) {
  const double x = weight_step(x_axis), y = weight_step(y_axis);
  return {static_cast<float>(x), static_cast<float>(y), static_cast<float>(x * kLog2E),
          static_cast<float>(y * kLog2E), static_cast<float>(x * y * kLog2E)};
}

// The node at the top left of a stack of cells, by its number in the tile.
template <typename Tile>
__device__ __forceinline__ int top_left_of(unsigned stack) {
  return static_cast<int>(stack / Tile::kColumns * Tile::kNodeColumns + stack % Tile::kColumns);
}

struct TileGrid {
  int side;    // CellTile's; 0: these kernels cannot take the shape
  bool small;  // whether tiles have fewer threads, as they do if there are few tiles
  BilinearAxis y, x;
  PixelSteps steps;
  int rows, columns;  // tiles in an image
  int64_t count;      // tiles in all
  int rim;            // nodes
};

// If there are fewer tiles than this, tiles of 4-pixel cells are small: multiprocessors share more
// tiles more evenly, which outweighs the larger number of nodes that neighbors share.
constexpr int64_t kFewTiles = 2048;

// Calls body(CellTile<side>()), with a stack of cells per thread if cells are small.
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

// The side of the tile for the cells of an axis; 0 if a cell may have no pixel or too many.
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
  // The elements from class to class and those of a tile's rim are counted in 32 bits, too.
  const int64_t plane = larger(grid.y.input_size * grid.x.input_size, input_strides.channel);
  const int64_t most = larger(grid.count, larger(plane, grid.rim * shape.channels));
  return most <= INT32_MAX ? grid : TileGrid{};
}

// Parts of a workspace are aligned to 16 bytes.
inline size_t padded_bytes(int64_t count, size_t size) {
  return (static_cast<size_t>(count) * size + 15) / 16 * 16;
}

// The engine's workspace (rims.cuh): first the counters of a launch, one for all blocks and, with a
// gradient, three per tile: right edge, bottom edge and bottom right corner. Then the rims.
constexpr int kTileCounters = 3;
inline int64_t counters_of(const TileGrid& grid, bool with_gradient) {
  return 1 + (with_gradient ? kTileCounters * grid.count : 0);
}
inline size_t tiles_workspace(const TileGrid& grid, int64_t classes, bool with_gradient) {
  return padded_bytes(counters_of(grid, with_gradient), sizeof(unsigned)) +
         (with_gradient ? padded_bytes(grid.count * classes * grid.rim, sizeof(float)) : 0);
}

// The engine's part of a kernel's arguments.
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
  float* rims;         // per tile its part, (classes, rim), or (rim, classes) if interleaved
  unsigned* counters;  // of blocks that meet, see rims.cuh

  // Whether the classes of a node are adjacent in the gradient.
  __host__ __device__ __forceinline__ bool interleaved() const {
    return gradient_strides.channel == 1;
  }
  // Steps in `rims` from one node to the next, and from class to class.
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

// workspace: of tiles_workspace() bytes. May be null without a gradient if the last block has
// nothing to do.
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

// The engine's part of a block's shared memory: byte offsets of its arrays, 64-bit numbers first.
// What a kernel adds starts at kBytes, a multiple of 16.
template <typename Tile, bool with_gradient>
struct NodeShared {
  static constexpr int kRowParts = Tile::kRows * Tile::kSegments;
  static constexpr int kColumnParts = Tile::kColumns * Tile::kSegments;
  static constexpr int kAround = 0;  // four int32 per node
  static constexpr int kInput =
      kAround + (Tile::kStack == 1 ? 16 * Tile::kNodes : 0);  // int64 per node
  static constexpr int kOutput = kInput + 8 * Tile::kNodes;   // pointer per node
  static constexpr int kExact = kOutput + 8 * Tile::kNodes;   // uint64 per thread: pixels to redo
  static constexpr int kScratch = kExact + 8 * Tile::kThreads;
  static constexpr int kStaged = kScratch + 8 * Tile::kThreads;
  static constexpr int kStagedBytes = 4 * Tile::kClasses * Tile::kSlots;
  static constexpr int kMaxima = kStaged + 2 * kStagedBytes;  // float per node, as staged
  // {Part::j, Part::y_step} per row of parts, {Part::i, Part::x_step} per column
  static constexpr int kPartY = (kMaxima + 4 * Tile::kSlots + 15) / 16 * 16;
  static constexpr int kPartX = kPartY + 8 * kRowParts;
  static constexpr int kRowBegins = kPartX + 8 * kColumnParts;  // int32 per row of cells, one more
  static constexpr int kColumnBegins = kRowBegins + 4 * (Tile::kRows + 1);      // likewise
  static constexpr int kOutputStep = kColumnBegins + 4 * (Tile::kColumns + 1);  // int32 per node
  static constexpr int kPlace = kOutputStep + 4 * Tile::kNodes;                 // three int
  static constexpr int kFlags = kPlace + 12;                                    // two int
  static constexpr int kEnded = kFlags + 8;                                     // unsigned
  static constexpr int kNodesThere = kEnded + 4;                                // int
  static constexpr int kNodeOf = kNodesThere + 4;                               // uint16 per thread
  static constexpr int kStackOf = kNodeOf + 2 * Tile::kThreads;                 // uint8 per thread
  static constexpr int kVectorOf = kStackOf + Tile::kThreads;                   // uint8 per thread
  static constexpr int kCorners =
      Tile::kStack == 1 ? kNodesThere
                        : (kVectorOf + Tile::kThreads + 15) / 16 * 16;  // float per class and place
  static constexpr int kBytes =
      (kCorners + (with_gradient ? 4 * Tile::kClasses * Tile::kCornerPitch : 0) + 15) / 16 * 16;
};

}  // namespace softmax
}  // namespace fcn_ext
