// The scores of a block's nodes on their way to the sweeps: the largest of each node, then all of
// them in stages of classes; and which thread meets which node.
#pragma once

#include "softmax/cuda/nodes.cuh"

namespace fcn_ext {
namespace softmax {

template <typename Tile, bool with_gradient>
struct StagedNodes : TileNodes<Tile, with_gradient> {
  using Nodes = TileNodes<Tile, with_gradient>;
  using Nodes::flags;
  using Nodes::index;
  using Nodes::input;
  using Nodes::kClasses;
  using Nodes::maxima;
  using Nodes::thread;
  using Nodes::tiles;

  __device__ __forceinline__ explicit StagedNodes(const SoftmaxTiles& given) : Nodes(given) {}

  // Calls body(node) for the thread's nodes. What is left of them once all threads have as many
  // goes to other warps each turn, of which there is one every second number.
  template <typename Body>
  __device__ __forceinline__ void each_own_node(int turn, const Body& body) const {
    constexpr bool kOneWarp = Tile::kNodes % Tile::kThreads <= kWarp;
    const auto shifted = static_cast<unsigned>(thread + turn * (kOneWarp ? kWarp : kWarp / 2));
    constexpr int kTurns = Tile::kNodes < Tile::kThreads ? 1 : Tile::kNodes / Tile::kThreads;
    constexpr int kEach = kTurns * Tile::kThreads;
    const int last = kEach + static_cast<int>(shifted % Tile::kThreads);
#pragma unroll
    for (int first = 0; first < kEach; first += Tile::kThreads) {
      if (kEach <= Tile::kNodes || thread < Tile::kNodes) {
        body(first + thread);
      }
    }
    if (last < Tile::kNodes) {
      body(last);
    }
  }

  // Calls body(k, node, a) for the first `count` staged classes of all nodes, neighboring threads
  // with neighboring classes: of a thread all for one k, `ahead` nodes at a time, of which `a` is
  // the number. load(k, node, a) comes before, for all of them: what it loads is on its way
  // together.
  template <int ahead, typename Load, typename Body>
  __device__ __forceinline__ void each_class_of_nodes(int count, const Load& load,
                                                      const Body& body) const {
    constexpr int kStep = Tile::kThreads / kClasses;  // nodes
    constexpr int kTurns = (Tile::kNodes + kStep - 1) / kStep;
    const auto k = static_cast<int>(index() % kClasses);
    const auto own = static_cast<int>(index() / kClasses);
    if (k >= count || own >= kStep) {
      return;
    }
    const auto each = [&](int first, const auto& visit) {
#pragma unroll
      for (int turn = first; turn < first + ahead && turn < kTurns; ++turn) {
        const int node = own + turn * kStep;
        if ((turn + 1) * kStep <= Tile::kNodes || node < Tile::kNodes) {
          visit(k, node, turn - first);
        }
      }
    };
#pragma unroll
    for (int turn = 0; turn < kTurns; turn += ahead) {
      each(turn, load);
      each(turn, body);
    }
  }

  // The largest score of each node, NaN if there is one: the node then makes all its cells NaN.
  __device__ __forceinline__ void find_maxima() const {
    with_scores(tiles.input, tiles.type, [&](const auto* scores) {
      const int64_t channel = tiles.input_strides.channel;
      const int32_t classes = tiles.classes;
      each_own_node(2, [&](int node) {
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
        if (!(most - least <= kRange<Tile>)) {
          flags[0] = 1;
        }
      });
    });
  }

  // Stages the classes [first, first + count); to be waited for. Where there is no node is zero.
  __device__ __forceinline__ void stage(int32_t first, int count, float* to) const {
    with_scores(tiles.input, tiles.type, [&](const auto* scores) {
      const auto channel = static_cast<uint32_t>(tiles.input_strides.channel);
      if (channel == 1) {
        constexpr int kAhead = 4;
        int64_t offset[kAhead];
        each_class_of_nodes<kAhead>(
            count, [&](int, int node, int a) { offset[a] = input[node]; },
            [&](int k, int node, int a) {
              if (offset[a] >= 0) {
                copy_score(scores + first + k + offset[a], to + k * Tile::kNodes + node);
              }
            });
        return;
      }
      const auto* const from = scores + uint64_t{channel} * static_cast<uint32_t>(first);
      each_own_node(first, [&](int node) {
        float* const target = to + node;
        const int64_t offset = input[node];
        if (offset < 0) {
          return;
        }
        const auto* const source = from + offset;
        if (count == kClasses) {
#pragma unroll
          for (uint32_t k = 0; k < kClasses; ++k) {
            copy_score(source + uint64_t{channel} * k, target + k * Tile::kNodes);
          }
        } else {
#pragma unroll 1
          for (uint32_t k = 0; k < static_cast<uint32_t>(count); ++k) {
            copy_score(source + uint64_t{channel} * k, target + k * Tile::kNodes);
          }
        }
      });
    });
    __pipeline_commit();
  }
};

}  // namespace softmax
}  // namespace fcn_ext
