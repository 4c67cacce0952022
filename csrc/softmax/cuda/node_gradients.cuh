// The gradients of the nodes of a block's tile: what the cells around a node hold for it, and where
// it goes. Nodes inside the tile are complete, and written to the gradient; those on its rim get
// their part of the workspace (rims.cuh).
#pragma once

#include "softmax/cuda/staged_nodes.cuh"

namespace fcn_ext {
namespace softmax {

template <typename Tile, bool with_gradient>
struct TileGradients : StagedNodes<Tile, with_gradient> {
  using Nodes = StagedNodes<Tile, with_gradient>;
  using Nodes::around;
  using Nodes::corners;
  using Nodes::each_own_node;
  using Nodes::output;
  using Nodes::output_step;
  using Nodes::thread;
  using Nodes::tiles;

  __device__ __forceinline__ explicit TileGradients(const SoftmaxTiles& given) : Nodes(given) {}

  // Where the thread's cell keeps its sums for the first staged class, a corner every kCells.
  __device__ __forceinline__ float* own_corner() const { return corners + this->cell(); }

  // Leaves a thread's sums, added up over the lanes of the cell, in `to`. With several lanes all of
  // a warp come here.
  __device__ __forceinline__ void keep(float (&corner)[4], float* to) const {
    each_kept(corner, to, [](float& at, float value) { at = value; });
  }
  // The same, added to what is there.
  __device__ __forceinline__ void add(float (&corner)[4], float* to) const {
    each_kept(corner, to, [](float& at, float value) { at += value; });
  }
  template <typename Body>
  __device__ __forceinline__ void each_kept(float (&corner)[4], float* to, const Body& body) const {
    if constexpr (Tile::kLanes == 1) {
#pragma unroll
      for (int which = 0; which < 4; ++which) {
        body(to[which * Tile::kCells], corner[which]);
      }
    } else {
      const int lane = static_cast<int>(this->lane()), which = combine_lanes<Tile>(lane, corner);
      if (lane < 4) {
        body(to[which * Tile::kCells], corner[0]);
      }
    }
  }

  // Leaves zero for all staged classes, for as long as nothing else is kept.
  __device__ __forceinline__ void clear_corners() const {
    float* to = own_corner();
    for (int k = 0; k < kTileClasses; ++k) {
      float corner[4] = {0, 0, 0, 0};
      keep(corner, to);
      to += Tile::kCornerPitch;
    }
  }

  // Where class c's gradient of a node goes, null for nowhere.
  __device__ __forceinline__ float* destination(int node, int32_t c) const {
    const auto step = static_cast<uint32_t>(output_step[node]);
    return step == 0 ? nullptr : output[node] + uint64_t{step} * static_cast<uint32_t>(c);
  }

  // Sets the gradients of the nodes for `count` classes to value(k, node, sum around it), in an
  // order in which neighboring threads write side by side.
  template <typename Value>
  __device__ __forceinline__ void set_gradients(int32_t first, int count,
                                                const Value& value) const {
    if (tiles.interleaved()) {
      constexpr int kAhead = 2;
      float sum[kAhead];
      this->template each_class_of_nodes<kAhead>(
          count, [&](int k, int node, int a) { sum[a] = sum_around(k, node); },
          [&](int k, int node, int a) {
            if (output_step[node] != 0) {
              output[node][first + k] = value(k, node, sum[a]);
            }
          });
      return;
    }
    each_own_node(first, [&](int node) {
      const auto step = static_cast<uint32_t>(output_step[node]);
      if (step == 0) {
        return;
      }
      float* const to = output[node] + uint64_t{step} * static_cast<uint32_t>(first);
      const Vector<int32_t, 4> at = around[node];
      const float *a = corners + at.values[0], *b = corners + at.values[1];
      const float *c = corners + at.values[2], *d = corners + at.values[3];
      const auto set = [&](uint32_t k) {
        const uint32_t pitch = k * Tile::kCornerPitch;
        to[uint64_t{step} * k] =
            value(static_cast<int>(k), node, (a[pitch] + b[pitch]) + (c[pitch] + d[pitch]));
      };
      if (count == kTileClasses) {
#pragma unroll
        for (uint32_t k = 0; k < kTileClasses; ++k) {
          set(k);
        }
      } else {
#pragma unroll 1
        for (uint32_t k = 0; k < static_cast<uint32_t>(count); ++k) {
          set(k);
        }
      }
    });
  }

  // Adds up what the cells around a node hold for it.
  __device__ __forceinline__ float sum_around(int k, int node) const {
    const float* const sums = corners + k * Tile::kCornerPitch;
    const Vector<int32_t, 4> at = around[node];
    return (sums[at.values[0]] + sums[at.values[1]]) + (sums[at.values[2]] + sums[at.values[3]]);
  }
};

}  // namespace softmax
}  // namespace fcn_ext
