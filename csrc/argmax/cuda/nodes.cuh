// The two largest scores of the nodes of a tile.
#pragma once

#include <cmath>

#include "argmax/cuda/tile.cuh"

namespace fcn_ext {
namespace argmax {

// Scores up to this are added and weighted without overflow, so they cause no NaN.
template <typename accumulate_t>
constexpr accumulate_t kLargestScore =
    accumulate_t(std::is_same_v<accumulate_t, double> ? 0x1p1022 : 0x1p126);

// The two largest scores of a node so far, and the class of the largest. `best` becomes and stays
// NaN if a value needs care: NaN or huge.
template <typename accumulate_t>
struct LargestTwo {
  accumulate_t best = -HUGE_VAL, second = -HUGE_VAL;
  int32_t best_class = kMixed;

  __device__ __forceinline__ void take(accumulate_t value, int32_t of_class) {
    best_class = value > best ? of_class : best_class;
    second = fmax(second, fmin(value, best));
    best = larger_or_nan(best, value);
  }
};

// Calls body(largest) with the thread's two largest among the classes before first_class, and
// stores what body makes of them. Threads that share a node have a part of its classes each.
template <typename accumulate_t, typename Body>
__device__ __forceinline__ void update_largest(const Tile<accumulate_t>& tile, int first_class,
                                               const Body& body) {
  const int thread = static_cast<int>(threadIdx.x);
  LargestTwo<accumulate_t> largest;
  if (first_class > 0) {
    largest = {tile.best()[thread], tile.second()[thread], tile.best_class()[thread]};
  }
  body(largest);
  tile.best()[thread] =
      largest.best < kLargestScore<accumulate_t> ? largest.best : accumulate_t(NAN);
  tile.second()[thread] = largest.second;
  tile.best_class()[thread] = largest.best_class;
}

// Updates the two largest scores of every node with the staged classes.
template <typename accumulate_t>
__device__ __forceinline__ void take_staged(const ArgmaxTiles& tiles,
                                            const Tile<accumulate_t>& tile, int first_class,
                                            int classes) {
  const int thread = static_cast<int>(threadIdx.x);
  const int node = thread & (tiles.nodes - 1), part = thread >> tiles.node_bits;
  update_largest(tile, first_class, [&](LargestTwo<accumulate_t>& largest) {
    const accumulate_t* from = tile.scores() + part * tiles.pitch + node;
#pragma unroll 4
    for (int c = part; c < classes; c += tiles.parts) {
      largest.take(*from, first_class + c);
      from += tiles.parts * tiles.pitch;
    }
  });
}

// take_staged() for classes on their way to shared memory, stored there if `kept`. Lanes
// follow the nodes of a row; a thread has several loads in flight.
template <typename scalar_t, typename accumulate_t>
__device__ __forceinline__ void take_classes_of(const ArgmaxArgs& args,
                                                const Tile<accumulate_t>& tile,
                                                const scalar_t* scores, int first_class,
                                                int classes, bool kept) {
  const ArgmaxTiles& tiles = args.tiles;
  const int thread = static_cast<int>(threadIdx.x);
  const int node = thread & (tiles.nodes - 1), part = thread >> tiles.node_bits;
  const int y = tile.first_cell_y + (node >> tiles.column_bits);
  const int x = tile.first_cell_x + (node & (tiles.node_columns - 1));
  const bool is_there = is_node(args.shape, y, x);
  const PlaneStrides& strides = args.strides;
  accumulate_t* to = tile.scores() + part * tiles.pitch + node;
  const int to_step = tiles.parts * tiles.pitch;
  int left = (classes - part + tiles.parts - 1) >> tiles.part_bits;
  if (!is_there) {
#pragma unroll 4
    for (; kept && left > 0; --left) {
      *to = 0;
      to += to_step;
    }
    return;
  }
  update_largest(tile, first_class, [&](LargestTwo<accumulate_t>& largest) {
    const scalar_t* from = scores + tile.image * strides.batch + y * strides.row +
                           x * strides.column + (first_class + part) * strides.channel;
    const auto step = static_cast<uint32_t>(tiles.parts * strides.channel);
    int32_t of_class = first_class + part;
    // In a last batch, only the first `there` loads are made.
    const auto take = [&](auto batch, int there) {
      constexpr int kAhead = decltype(batch)::value;
      Vector<scalar_t, 1> ahead[kAhead];
#pragma unroll
      for (int a = 0; a < kAhead; ++a) {
        if (a < there) {
          ahead[a] = load_vector<1>(stepped(from, step, a));
        }
      }
#pragma unroll
      for (int a = 0; a < kAhead; ++a) {
        if (a < there) {
          const auto value = static_cast<accumulate_t>(ahead[a].values[0]);
          if (kept) {
            to[a * to_step] = value;
          }
          largest.take(value, of_class + a * tiles.parts);
        }
      }
      from = stepped(from, step, kAhead);
      to += kAhead * to_step;
      of_class += kAhead * tiles.parts;
      left -= kAhead;
    };
    constexpr int kWhole = sizeof(accumulate_t) == 4 ? 8 : 2;
    constexpr int kLast = sizeof(accumulate_t) == 4 ? 4 : 1;
#pragma unroll 1
    while (left >= kWhole) {
      take(std::integral_constant<int, kWhole>(), kWhole);
    }
#pragma unroll 1
    while (left > 0) {
      take(std::integral_constant<int, kLast>(), left);
    }
  });
}

// Stages classes and updates the two largest scores of every node; classes that come in stages are
// not kept. The caller's next barrier completes this.
template <typename accumulate_t>
__device__ __forceinline__ void take_classes(const ArgmaxArgs& args, const Tile<accumulate_t>& tile,
                                             int first_class, int classes) {
  const ArgmaxTiles& tiles = args.tiles;
  if (tiles.interleaved || !tiles.near) {
    if (first_class > 0) {
      __syncthreads();
    }
    stage_scores(args, tile, first_class, classes);
    __syncthreads();
    return take_staged(tiles, tile, first_class, classes);
  }
  const bool kept = tiles.stages == 1;
  if constexpr (std::is_same_v<accumulate_t, double>) {
    take_classes_of(args, tile, static_cast<const double*>(args.input), first_class, classes, kept);
  } else {
    with_scores(args.input, args.type, [&](const auto* scores) {
      take_classes_of(args, tile, scores, first_class, classes, kept);
    });
  }
}

// Joins the parts of every node, one node per thread.
template <typename accumulate_t>
__device__ __forceinline__ void merge_parts(const ArgmaxTiles& tiles,
                                            const Tile<accumulate_t>& tile) {
  const int node = static_cast<int>(threadIdx.x);
  if (node >= tiles.nodes) {
    return;
  }
  accumulate_t best = tile.best()[node], second = tile.second()[node];
  int32_t best_class = tile.best_class()[node];
#pragma unroll 1
  for (int slot = node + tiles.nodes; slot < kThreads; slot += tiles.nodes) {
    const accumulate_t other = tile.best()[slot];
    best_class = other > best ? tile.best_class()[slot] : best_class;
    second = fmax(fmax(second, tile.second()[slot]), fmin(best, other));
    best = larger_or_nan(best, other);
  }
  tile.best()[node] = best;
  tile.second()[node] = second;
  tile.best_class()[node] = best_class;
}

}  // namespace argmax
}  // namespace fcn_ext
