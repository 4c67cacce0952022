// The gradients of the nodes of a block's tile: adds up what the stacks of cells around a node hold
// for it, and finds where the sum goes. Nodes inside the tile are complete and go to the gradient;
// nodes on the rim are parts and go to the workspace (rims.cuh).
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
  using Nodes::kClasses;
  using Nodes::output;
  using Nodes::output_step;
  using Nodes::thread;
  using Nodes::tiles;

  __device__ __forceinline__ explicit TileGradients(const SoftmaxTiles& given) : Nodes(given) {}

  // Where the thread's stack holds its sums for the first staged class. Tile::to_sum leads from
  // there to the sums of the stack's corners.
  __device__ __forceinline__ float* own_corner() const {
    const unsigned stack = this->stack();
    return corners + (Tile::kStack == 1 ? static_cast<int>(stack) : top_left_of<Tile>(stack));
  }

  // Stores a thread's sums, added up over the lanes of the cell, at `to`. If a cell has several
  // lanes, all threads of the warp must call this.
  __device__ __forceinline__ void keep(float (&corner)[Tile::kCorners], float* to) const {
    each_kept(corner, to, [](float& at, float value) { at = value; });
  }
  // Like keep(), but adds to what is there.
  __device__ __forceinline__ void add(float (&corner)[Tile::kCorners], float* to) const {
    each_kept(corner, to, [](float& at, float value) { at += value; });
  }
  template <typename Body>
  __device__ __forceinline__ void each_kept(float (&corner)[Tile::kCorners], float* to,
                                            const Body& body) const {
    if constexpr (Tile::kLanes == 1) {
#pragma unroll
      for (int k = 0; k < Tile::kCorners; ++k) {
        body(to[Tile::to_sum(k)], corner[k]);
      }
    } else {
      const int lane = static_cast<int>(this->lane()), which = combine_lanes<Tile>(lane, corner);
      if (lane < 4) {
        body(to[Tile::to_sum(which)], corner[0]);
      }
    }
  }

  // Stores zero for all staged classes, which lasts until something else is kept.
  __device__ __forceinline__ void clear_corners() const {
    float* to = own_corner();
    for (int k = 0; k < kClasses; ++k) {
      float corner[Tile::kCorners] = {};
      keep(corner, to);
      to += Tile::kCornerPitch;
    }
  }

  // Where the gradient of a node for class c goes; null if nowhere.
  __device__ __forceinline__ float* destination(int node, int32_t c) const {
    const auto step = static_cast<uint32_t>(output_step[node]);
    return step == 0 ? nullptr
                     : in_global_memory(output[node] + uint64_t{step} * static_cast<uint32_t>(c));
  }

  // Sets the gradients of the nodes for `count` classes to value(k, node, sum around it), in an
  // order in which neighboring threads write to neighboring addresses.
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
              in_global_memory(output[node])[first + k] = value(k, node, sum[a]);
            }
          });
      return;
    }
    each_own_node(first / kClasses, [&](int node) {
      const auto step = static_cast<uint32_t>(output_step[node]);
      if (step == 0) {
        return;
      }
      float* const to = output[node] + uint64_t{step} * static_cast<uint32_t>(first);
      with_sums_around(node, [&](const auto& sum_around) {
        const auto set = [&](uint32_t k) {
          *stepped(to, step, k) = value(static_cast<int>(k), node, sum_around(k));
        };
        if (count == kClasses) {
#pragma unroll
          for (uint32_t k = 0; k < kClasses; ++k) {
            set(k);
          }
        } else {
#pragma unroll 1
          for (uint32_t k = 0; k < static_cast<uint32_t>(count); ++k) {
            set(k);
          }
        }
      });
    });
  }

  // Calls body(sum), where sum(k) adds up what the cells around a node hold for class k.
  template <typename Body>
  __device__ __forceinline__ void with_sums_around(int node, const Body& body) const {
    if constexpr (Tile::kStack == 1) {
      const Vector<int32_t, 4> at = around[node];
      const float *a = corners + at.values[0], *b = corners + at.values[1];
      const float *c = corners + at.values[2], *d = corners + at.values[3];
      body([&](uint32_t k) {
        const uint32_t pitch = k * Tile::kCornerPitch;
        return (a[pitch] + b[pitch]) + (c[pitch] + d[pitch]);
      });
    } else if (node < Tile::kOuter) {
      const float* const sums = corners + node;
      body([&](uint32_t k) {
        const float* const of_class = sums + k * Tile::kCornerPitch;
        return (of_class[0] + of_class[Tile::kOuter]) +
               (of_class[2 * Tile::kOuter] + of_class[3 * Tile::kOuter]);
      });
    } else {
      const float* const sums = corners + 3 * Tile::kOuter + node;
      body([&](uint32_t k) {
        const float* const of_class = sums + k * Tile::kCornerPitch;
        return of_class[0] + of_class[Tile::kInner];
      });
    }
  }
  __device__ __forceinline__ float sum_around(int k, int node) const {
    float sum = 0;
    with_sums_around(node, [&](const auto& sum_of) { sum = sum_of(static_cast<uint32_t>(k)); });
    return sum;
  }
};

}  // namespace softmax
}  // namespace fcn_ext
