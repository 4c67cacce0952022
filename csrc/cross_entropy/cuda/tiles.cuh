// How the geometric-row kernel cuts its work: cells, tiles of cells, and who owns which node.
//
// Cell k of an axis lies between the nodes k - 1 and k and holds `stride` pixels, cell 0 and cell
// `nodes` half of them beyond the border. A tile is a block's cells; the nodes around them are its
// nodes, those on its rim also a neighbour's. A block writes the gradient of the nodes inside, and
// its part of that of the rim to a workspace, from where a second kernel adds the parts up.
#pragma once

#include "cross_entropy/cuda/device.cuh"

namespace fcn_ext {
namespace cross_entropy {

constexpr int kTileThreads = 128;
constexpr int kTileClasses = 6;  // staged in shared memory at once

// Pixels [cell * stride - offset, + stride) of `outputs` lie in a cell.
struct CellAxis {
  int64_t nodes, outputs, offset;
  bool clamp;
};

// The axis as cells of `stride` pixels, in the middle of whose steps pixels lie: (o + offset + 1/2)
// / stride - 1 is the position of output o. False if it is not such an axis.
inline bool cell_axis(const BilinearAxis& axis, int64_t stride, CellAxis& cells) {
  if (whole_stride(axis) != stride || 2 * axis.start % axis.step != 0) {
    return false;
  }
  const int64_t halves = 2 * axis.start / axis.step;  // offset - stride + 1/2
  cells = {axis.input_size, axis.output_size, (halves - 1) / 2 + stride, axis.clamp};
  return (halves - 1) % 2 == 0 && cells.offset >= 0 &&
         axis.output_size + cells.offset <= (axis.input_size + 1) * stride;
}

// The tile of a stride: a thread takes up to 8 x 8 pixels of a cell, kLanes neighbouring threads
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
  CellAxis y, x;
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
TileGrid tile_grid(const CrossEntropy& problem) {
  const BilinearShape& shape = problem.shape;
  TileGrid grid{};
  for (const int stride : {2, 4, 8, 16, 32}) {
    if (!std::is_same_v<scalar_t, double> && cell_axis(shape.y, stride, grid.y) &&
        cell_axis(shape.x, stride, grid.x)) {
      grid.stride = stride;
    }
  }
  // Classes are kept in 16 bits, the two highest values are taken.
  if (grid.stride == 0 || shape.channels > 0xfffe) {
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

struct TileArgs {
  TileGrid grid;
  int64_t images;
  const void* input;
  int type;  // of the scores: 0 float, 2 half, 3 bfloat16
  PlaneStrides input_strides;
  LabelMap target;
  int64_t ignore_index;
  ClassTerms<float> terms;
  float* gradient;  // or null
  PlaneStrides gradient_strides;
  float* rims;  // (tiles, classes, rim)
  PartialLoss* partials;
};

// Calls body(pointer to the first score).
template <typename Body>
__device__ __forceinline__ void with_scores(const TileArgs& args, const Body& body) {
  switch (args.type) {
    case 0:
      return body(static_cast<const float*>(args.input));
    case 2:
      return body(static_cast<const c10::Half*>(args.input));
    default:
      return body(static_cast<const c10::BFloat16*>(args.input));
  }
}

__device__ __forceinline__ float score_at(const TileArgs& args, int64_t offset) {
  float score = 0;
  with_scores(args, [&](const auto* scores) { score = static_cast<float>(scores[offset]); });
  return score;
}

// A block's shared memory, byte offsets of its parts. Parts of doubles and 64-bit integers first.
template <typename Tile, bool with_gradient>
struct TileShared {
  static constexpr int kInput = 0;                           // int64 a node: its scores, or kNoNode
  static constexpr int kOutput = kInput + 8 * Tile::kNodes;  // its gradient, likewise
  static constexpr int kAround = kOutput + 8 * Tile::kNodes;  // four uint16 a node
  static constexpr int kExact = kAround + 8 * Tile::kNodes;   // uint64 a thread: pixels to redo
  static constexpr int kScratch = kExact + 8 * kTileThreads;
  static constexpr int kLoss = kScratch + 8 * kTileThreads;  // double a thread
  static constexpr int kWeights = kLoss + 8 * kTileThreads;  // float a thread
  static constexpr int kStaged = kWeights + 4 * kTileThreads;
  static constexpr int kStagedBytes = 4 * kTileClasses * Tile::kNodes;
  static constexpr int kMaxima = kStaged + 2 * kStagedBytes;  // float a node
  static constexpr int kCounts = kMaxima + 4 * Tile::kNodes;  // int a staged class and node
  static constexpr int kValid = kCounts + kStagedBytes;       // int a node
  static constexpr int kFlags = kValid + 4 * Tile::kNodes;    // two int
  static constexpr int kAllSmooth = kFlags + 8;               // float
  static constexpr int kTurns = kAllSmooth + 4;               // unsigned a thread
  static constexpr int kCorners = kTurns + 4 * kTileThreads;  // float a class, corner and cell
  static constexpr int kCodes =
      kCorners + (with_gradient ? 4 * kTileClasses * Tile::kCornerPitch : 0);
  static constexpr int kBorders = kCodes + 2 * Tile::kPixels * kTileThreads;  // a byte a node
  static constexpr int kBytes = kBorders + Tile::kNodes;
};

}  // namespace cross_entropy
}  // namespace fcn_ext
