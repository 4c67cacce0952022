// The nodes of a block's tile: where they are, their largest scores, and the staging of the others.
#pragma once

#include "softmax/cuda/cells.cuh"
#include "softmax/cuda/tiles.cuh"

namespace fcn_ext {
namespace softmax {

constexpr int64_t kNoNode = INT64_MIN;
// What a node is on an axis whose border is clamped, where it is met again beyond the border.
constexpr uint8_t kFirstRow = 1, kLastRow = 2, kFirstColumn = 4, kLastColumn = 8;

template <typename Tile, bool with_gradient>
struct TileNodes {
  using Shared = NodeShared<Tile, with_gradient>;
  static constexpr int kNodes = Tile::kNodes;

  const SoftmaxTiles& tiles;
  int thread;

  int64_t* input;     // of a node: where its scores are, or kNoNode
  uintptr_t* output;  // where its gradient is for class 0, or 0; odd on the rim, see destination
  Vector<uint16_t, 4>* around;  // where the sums are that cells hold for it, see sum_around
  float* staged;
  float* maxima;
  unsigned long long* exact;  // of a thread: pixels to compute again
  double* scratch;            // of a thread
  int* flags;        // is a score far from the node's largest? is there a pixel to compute again?
  float* corners;    // of a staged class, corner and cell: sums
  uint8_t* borders;  // of a node

  __device__ __forceinline__ explicit TileNodes(const SoftmaxTiles& given) : tiles(given) {
    thread = static_cast<int>(threadIdx.x);
    auto* bytes = shared_memory<unsigned char>();
    input = reinterpret_cast<int64_t*>(bytes + Shared::kInput);
    output = reinterpret_cast<uintptr_t*>(bytes + Shared::kOutput);
    around = reinterpret_cast<Vector<uint16_t, 4>*>(bytes + Shared::kAround);
    exact = reinterpret_cast<unsigned long long*>(bytes + Shared::kExact);
    scratch = reinterpret_cast<double*>(bytes + Shared::kScratch);
    staged = reinterpret_cast<float*>(bytes + Shared::kStaged);
    maxima = reinterpret_cast<float*>(bytes + Shared::kMaxima);
    flags = reinterpret_cast<int*>(bytes + Shared::kFlags);
    corners = reinterpret_cast<float*>(bytes + Shared::kCorners);
    borders = bytes + Shared::kBorders;
  }

  // Of the tile: its image, and its first row and column of cells.
  __device__ __forceinline__ int image() const {
    return static_cast<int>(blockIdx.x) / (tiles.grid.rows * tiles.grid.columns);
  }
  __device__ __forceinline__ int first_row() const {
    return static_cast<int>(blockIdx.x) / tiles.grid.columns % tiles.grid.rows * Tile::kRows;
  }
  __device__ __forceinline__ int first_column() const {
    return static_cast<int>(blockIdx.x) % tiles.grid.columns * Tile::kColumns;
  }

  // A thread's cell, which of the cell's threads it is, and its part of the cell: found again where
  // they are used, rather than kept.
  __device__ __forceinline__ int cell() const { return opaque(thread) / Tile::kLanes; }
  __device__ __forceinline__ int lane() const { return opaque(thread) % Tile::kLanes; }
  __device__ __forceinline__ Part<Tile> part() const {
    const int own = lane();
    return {own % Tile::kSegments * Tile::kSide, own / Tile::kSegments * Tile::kSide};
  }

  // The node at corner k of a cell: top left, top right, bottom left, bottom right.
  __device__ __forceinline__ int corner_node(int of_cell, int k) const {
    const int top_left = of_cell / Tile::kColumns * Tile::kNodeColumns + of_cell % Tile::kColumns;
    int i = k / 2, j = k % 2;
    if ((i == 0 && (borders[top_left + Tile::kNodeColumns] & kFirstRow) != 0) ||
        (i == 1 && (borders[top_left] & kLastRow) != 0)) {
      i = 1 - i;
    }
    if ((j == 0 && (borders[top_left + 1] & kFirstColumn) != 0) ||
        (j == 1 && (borders[top_left] & kLastColumn) != 0)) {
      j = 1 - j;
    }
    return top_left + i * Tile::kNodeColumns + j;
  }

  // Whether any pixel of the output lies in the tile.
  __device__ __forceinline__ bool has_pixels() const {
    const StrideAxis &y = tiles.grid.y, &x = tiles.grid.x;
    return int64_t{first_row() + Tile::kRows} * Tile::kStride > y.offset &&
           int64_t{first_row()} * Tile::kStride < y.offset + y.outputs &&
           int64_t{first_column() + Tile::kColumns} * Tile::kStride > x.offset &&
           int64_t{first_column()} * Tile::kStride < x.offset + x.outputs;
  }

  // Where scores and gradients of the nodes are.
  __device__ __forceinline__ void find_nodes() const {
    const StrideAxis &y = tiles.grid.y, &x = tiles.grid.x;
    for (int node = thread; node < Tile::kNodes; node += kTileThreads) {
      int64_t row = first_row() - 1 + node / Tile::kNodeColumns;
      int64_t column = first_column() - 1 + node % Tile::kNodeColumns;
      const bool row_is_there = row >= 0 && row < y.nodes;
      const bool column_is_there = column >= 0 && column < x.nodes;
      const int i = node / Tile::kNodeColumns, j = node % Tile::kNodeColumns;
      output[node] = 0;
      if (with_gradient && row_is_there && column_is_there) {
        const bool rim = i == 0 || i == Tile::kRows || j == 0 || j == Tile::kColumns;
        const float* place =
            rim ? tiles.rims + static_cast<int64_t>(blockIdx.x) * tiles.classes * Tile::kRim +
                      rim_slot<Tile>(i, j)
                : tiles.gradient + image() * tiles.gradient_strides.batch +
                      row * tiles.gradient_strides.row + column * tiles.gradient_strides.column;
        output[node] = reinterpret_cast<uintptr_t>(place) + (rim ? 1 : 0);
      }
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const int cell_row = i - 1 + k / 2, cell_column = j - 1 + k % 2;
        const bool inside = cell_row >= 0 && cell_row < Tile::kRows && cell_column >= 0 &&
                            cell_column < Tile::kColumns;
        around[node].values[k] = static_cast<uint16_t>(
            inside ? (3 - k) * Tile::kCells + cell_row * Tile::kColumns + cell_column
                   : 4 * Tile::kCells);
      }
      borders[node] = static_cast<uint8_t>((y.clamp && row == 0 ? kFirstRow : 0) |
                                           (y.clamp && row == y.nodes - 1 ? kLastRow : 0) |
                                           (x.clamp && column == 0 ? kFirstColumn : 0) |
                                           (x.clamp && column == x.nodes - 1 ? kLastColumn : 0));
      row = y.clamp ? larger<int64_t>(0, smaller(row, y.nodes - 1)) : row;
      column = x.clamp ? larger<int64_t>(0, smaller(column, x.nodes - 1)) : column;
      input[node] = row >= 0 && row < y.nodes && column >= 0 && column < x.nodes
                        ? image() * tiles.input_strides.batch + row * tiles.input_strides.row +
                              column * tiles.input_strides.column
                        : kNoNode;
    }
    if (thread == 0) {
      flags[0] = flags[1] = 0;
    }
  }

  // Calls body(node) for the thread's nodes. What is left of them once every thread has one goes to
  // a warp of its own each turn.
  template <typename Body>
  __device__ __forceinline__ void each_own_node(int turn, const Body& body) const {
    const int second = kTileThreads + (thread + turn * kWarp) % kTileThreads;
#pragma unroll 1
    for (int node = thread; node < Tile::kNodes;
         node = node < kTileThreads ? second : Tile::kNodes) {
      body(node);
    }
  }

  // The largest score of each node, NaN if there is one: the node then makes all its cells NaN.
  __device__ __forceinline__ void find_maxima() const {
    with_scores(tiles.input, tiles.type, [&](const auto* scores) {
      const int64_t channel = tiles.input_strides.channel;
      const int32_t classes = tiles.classes;
      each_own_node(1, [&](int node) {
        float most = 0, least = 0;
        if (input[node] != kNoNode) {
          const auto* const first = scores + input[node];
          const auto* from = first;
          most = least = static_cast<float>(*from);
          float finite = most * 0;  // or NaN
#pragma unroll 8
          for (int32_t c = 1; c < classes; ++c) {
            from += channel;
            const auto score = static_cast<float>(*from);
            most = fmaxf(score, most);
            least = fminf(score, least);
            finite = fmaf(score, 0.0f, finite);
          }
          if (finite != finite) {
#pragma unroll 1
            for (int32_t c = 0; c < classes; ++c) {
              const auto score = static_cast<float>(first[c * channel]);
              most = score != score ? score : most;
            }
          }
        }
        // The differences to an infinity are NaN for all classes, or none of its cells would be.
        maxima[node] = most == INFINITY ? not_a_number<float>() : most;
        if (!(most - least <= kRange)) {
          flags[0] = 1;
        }
      });
    });
  }

  // Stages the classes [first, first + count); to be waited for.
  __device__ __forceinline__ void stage(int32_t first, int count, float* to) const {
    with_scores(tiles.input, tiles.type, [&](const auto* scores) {
      const int64_t channel = tiles.input_strides.channel;
      if (channel == 1) {
#pragma unroll 2
        for (int e = thread; e < kTileClasses * Tile::kNodes; e += kTileThreads) {
          const int k = e % kTileClasses, node = e / kTileClasses;
          if (k < count) {
            float* const target = to + k * Tile::kNodes + node;
            if (input[node] == kNoNode) {
              *target = 0;
            } else {
              copy_score(scores + input[node] + first + k, target);
            }
          }
        }
        return;
      }
      each_own_node(first / kTileClasses, [&](int node) {
        float* const target = to + node;
        const int64_t offset = input[node];
        if (offset == kNoNode) {
#pragma unroll
          for (int k = 0; k < kTileClasses; ++k) {
            target[k * Tile::kNodes] = 0;
          }
          return;
        }
        const auto* source = scores + offset + first * channel;
        if (count == kTileClasses) {
#pragma unroll
          for (int k = 0; k < kTileClasses; ++k) {
            copy_score(source, target + k * Tile::kNodes);
            source += channel;
          }
        } else {
#pragma unroll 1
          for (int k = 0; k < count; ++k) {
            copy_score(source + k * channel, target + k * Tile::kNodes);
          }
        }
      });
    });
    __pipeline_commit();
  }
};

}  // namespace softmax
}  // namespace fcn_ext
