// The end of a block that has a tile. The gradient of a node between tiles is the sum of what their
// blocks found. Each block leaves its part in the workspace; the last block to arrive where tiles
// meet adds up the parts there, in an order fixed by the shape.
//
// Two tiles meet at an edge, four at a corner. The counter of a meeting belongs to the tile at its
// upper left. Seen from a tile, meetings lie in directions (dy, dx), -1 to 1 each, and are numbered
// 3 * (dy + 1) + dx + 1; the middle number is the meeting of all blocks of the launch.
//
// Memory touched: for each node between tiles, the block's own part and the other tiles' parts; the
// gradient of half of the nodes on the rim.
#pragma once

#include "common/cuda/arrivals.cuh"
#include "softmax/cuda/node_gradients.cuh"

namespace fcn_ext {
namespace softmax {

constexpr int kDirections = 9, kOfAll = 4;

struct Meeting {
  int64_t counter;  // its index
  unsigned blocks;  // 0: no meeting
};

// A node between tiles: where its gradient goes, null if the map has no such node, and the two or
// four parts of the gradient.
struct RimNode {
  float* to;
  const float* parts[4];

  // The sum of class c; `step` floats lead from class to class.
  __device__ __forceinline__ float sum(uint32_t step, uint32_t c) const {
    float sum = *stepped(parts[0], step, c) + *stepped(parts[1], step, c);
    if (parts[2] != nullptr) {
      sum += *stepped(parts[2], step, c);
      sum += *stepped(parts[3], step, c);
    }
    return sum;
  }
};

// The rims of a block's tile.
template <typename Tile>
struct Rims {
  const TileGradients<Tile, true>& block;

  static_assert(Tile::kRim * sizeof(RimNode) <= 2 * NodeShared<Tile, true>::kStagedBytes &&
                Tile::kRim <= Tile::kThreads && NodeShared<Tile, true>::kStaged % 8 == 0);
  // In the memory that scores were staged in.
  __device__ __forceinline__ RimNode* nodes() const {
    return reinterpret_cast<RimNode*>(block.staged);
  }

  // The number of nodes in the meetings of these directions.
  static __device__ __forceinline__ int count_of(unsigned directions) {
    constexpr unsigned kAbove = 1u << 1, kBelow = 1u << 7, kLeft = 1u << 3, kRight = 1u << 5;
    constexpr unsigned kCorners = 1u << 0 | 1u << 2 | 1u << 6 | 1u << 8;
    return (Tile::kColumns - 1) * __popc(directions & (kAbove | kBelow)) +
           (Tile::kRows - 1) * __popc(directions & (kLeft | kRight)) +
           __popc(directions & kCorners);
  }

  // The meeting in a direction.
  __device__ __forceinline__ Meeting meeting(int direction) const {
    const TileGrid& grid = block.tiles.grid;
    const int dy = direction / 3 - 1, dx = direction % 3 - 1;
    const int row = block.first_row() / Tile::kRows - (dy < 0 ? 1 : 0);
    const int column = block.first_column() / Tile::kColumns - (dx < 0 ? 1 : 0);
    if ((dy != 0 && (row < 0 || row + 1 >= grid.rows)) ||
        (dx != 0 && (column < 0 || column + 1 >= grid.columns))) {
      return {0, 0};
    }
    const int64_t tile = (int64_t{block.image()} * grid.rows + row) * grid.columns + column;
    const int which = dy == 0 ? 0 : dx == 0 ? 1 : 2;
    return {1 + kTileCounters * tile + which, which == 2 ? 4u : 2u};
  }

  // Finds the nodes at the meetings that the block ends, one bit per direction. Each thread looks
  // at one node of the rim. A barrier must follow.
  __device__ __forceinline__ void find_nodes(unsigned ended) const {
    const int slot = block.thread;
    if (slot >= Tile::kRim) {
      return;
    }
    int i, j;
    if (slot < 2 * Tile::kNodeColumns) {
      i = slot < Tile::kNodeColumns ? 0 : Tile::kRows;
      j = slot < Tile::kNodeColumns ? slot : slot - Tile::kNodeColumns;
    } else {
      const int beside = slot - 2 * Tile::kNodeColumns;
      const bool left = beside < Tile::kRows - 1;
      i = left ? beside + 1 : beside + 2 - Tile::kRows;
      j = left ? 0 : Tile::kColumns;
    }
    const int dy = i == 0 ? -1 : i == Tile::kRows ? 1 : 0;
    const int dx = j == 0 ? -1 : j == Tile::kColumns ? 1 : 0;
    const unsigned own = 1u << (3 * (dy + 1) + dx + 1);
    if ((ended & own) != 0) {
      // The nodes of a meeting are consecutive, after those of the directions before.
      const int within = dy == 0 ? i - 1 : dx == 0 ? j - 1 : 0;
      nodes()[count_of(ended & (own - 1)) + within] = node_at(i, j, dy, dx);
    }
  }
  __device__ __forceinline__ RimNode node_at(int i, int j, int dy, int dx) const {
    const SoftmaxTiles& tiles = block.tiles;
    RimNode node{};
    const int row = block.first_row() - 1 + i, column = block.first_column() - 1 + j;
    if (row < 0 || row >= static_cast<int>(tiles.grid.y.input_size) || column < 0 ||
        column >= static_cast<int>(tiles.grid.x.input_size)) {
      return node;
    }
    const PlaneStrides& strides = tiles.gradient_strides;
    node.to = tiles.gradient + block.image() * strides.batch + row * strides.row +
              column * strides.column;
    // The part in the tile that lies so many tiles below and beside the upper left one of the tiles
    // that have the node.
    const auto part = [&](int below, int beside) {
      const int tile_row = below - (dy < 0 ? 1 : 0), tile_column = beside - (dx < 0 ? 1 : 0);
      const int64_t tile = int64_t{blockIdx.x} + tile_row * tiles.grid.columns + tile_column;
      const int slot = rim_slot<Tile>(i - tile_row * Tile::kRows, j - tile_column * Tile::kColumns);
      return tiles.rims + (tile * tiles.classes * Tile::kRim + int64_t{slot} * tiles.rim_step());
    };
    node.parts[0] = part(0, 0);
    node.parts[1] = dx != 0 ? part(0, 1) : part(1, 0);
    if (dx != 0 && dy != 0) {
      node.parts[2] = part(1, 0);
      node.parts[3] = part(1, 1);
    }
    return node;
  }

  // Sets the gradients of the nodes that find_nodes() found.
  __device__ __forceinline__ void set_gradients(unsigned ended) const {
    const auto classes = static_cast<unsigned>(block.tiles.classes);
    const auto thread = static_cast<unsigned>(block.thread);
    const auto count = static_cast<unsigned>(count_of(ended));
    if (count == 0) {
      return;
    }
    if (block.tiles.interleaved()) {
      // A thread takes one class of a node, and every `width`-th class after it.
      const unsigned width = smaller(unsigned{Tile::kThreads}, classes);
      const unsigned at_once = Tile::kThreads / width, first = thread / width;
      if (first >= at_once) {
        return;
      }
#pragma unroll 1
      for (unsigned k = first; k < count; k += at_once) {
        const RimNode node = nodes()[k];
        if (node.to != nullptr) {
#pragma unroll 1
          for (unsigned c = thread - first * width; c < classes; c += width) {
            in_global_memory(node.to)[c] = node.sum(1, c);
          }
        }
      }
      return;
    }
    // A thread takes one node, and every `at_once`-th of its classes.
    const unsigned at_once = Tile::kThreads / count, first = thread / count;
    const RimNode node = nodes()[thread - first * count];
    if (first >= at_once || node.to == nullptr) {
      return;
    }
    const auto channel = static_cast<uint32_t>(block.tiles.gradient_strides.channel);
#pragma unroll 4
    for (unsigned c = first; c < classes; c += at_once) {
      *stepped(node.to, channel, c) = node.sum(Tile::kRim, c);
    }
  }
};

// Call before a launch whose blocks call leave_tile().
inline void launch_clear_counters(const SoftmaxTiles& tiles, cudaStream_t stream) {
  launch_clear_arrivals(tiles.counters, counters_of(tiles.grid, tiles.gradient != nullptr), stream);
}

// Ends a block; all its threads must call this. Finishes the rims of a gradient at the meetings
// where the block is the last one. If `finishes`, the last block of all calls finish(scratch), with
// one double of shared memory per thread; other blocks must have written what that reads.
template <typename Tile, bool with_gradient, typename Finish>
__device__ __forceinline__ void leave_tile(const TileGradients<Tile, with_gradient>& block,
                                           bool finishes, const Finish& finish) {
  __syncthreads();
  if (block.thread < kWarp) {
    Meeting meeting{0, 0};
    if (block.thread == kOfAll) {
      meeting.blocks = finishes ? gridDim.x : 0;
    } else if constexpr (with_gradient) {
      meeting = block.thread < kDirections ? Rims<Tile>{block}.meeting(block.thread) : meeting;
    }
    const bool last =
        meeting.blocks != 0 && arrives_last(block.tiles.counters + meeting.counter, meeting.blocks);
    const unsigned ended = __ballot_sync(kFullMask, last);
    if (block.thread == 0) {
      *block.ended = ended;
    }
  }
  __syncthreads();
  const unsigned ended = *block.ended;
  if constexpr (with_gradient) {
    const Rims<Tile> rims{block};
    rims.find_nodes(ended);
    __syncthreads();
    rims.set_gradients(ended);
  }
  if ((ended >> kOfAll & 1) != 0) {
    finish(block.scratch);
  }
}

// For tiles that have nothing else to finish.
template <typename Tile>
__device__ __forceinline__ void leave_tile(const TileGradients<Tile, true>& block) {
  leave_tile(block, false, [](double*) {});
}

}  // namespace softmax
}  // namespace fcn_ext
