// The scores of a block's nodes on their way to the sweeps: finds the largest of each node, then
// stages all of them, some classes at a time. Also assigns nodes to threads.
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
  using Nodes::kAllVectors;
  using Nodes::kClasses;
  using Nodes::kVectors;
  using Nodes::maxima;
  using Nodes::node_of;
  using Nodes::nodes_there;
  using Nodes::thread;
  using Nodes::tiles;
  using Nodes::vector_of;

  __device__ __forceinline__ explicit StagedNodes(const SoftmaxTiles& given) : Nodes(given) {}

  // Calls body(node) for the thread's nodes. The nodes left over when all threads have equally many
  // go to another warp each turn, or to two if one does not suffice.
  template <typename Body>
  __device__ __forceinline__ void each_own_node(int turn, const Body& body) const {
    if constexpr (Tile::kStack > 1) {
      if (const int there = *nodes_there; there != 0) {
        if (thread < there) {
          body(node_of[thread]);
        }
        return;
      }
    }
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

  // Calls body(k, node, a) for the first `count` staged classes of all nodes. Neighboring threads
  // have neighboring classes: a thread has one k and takes `ahead` nodes at a time, numbered by
  // `a`. load(k, node, a) is called for all of these first, so that their loads overlap.
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

  // The largest score of each node; a NaN among them makes all cells around the node NaN.
  __device__ __forceinline__ void find_maxima() const {
    with_scores(tiles.input, tiles.type, [&](const auto* scores) {
      const int64_t channel = tiles.input_strides.channel;
      const int32_t classes = tiles.classes;
      each_own_node(2, [&](int node) {
        float most = 0, least = 0;
        if (input[node] != kNoNode) {
          const auto* from = scores + input[node];
          most = least = static_cast<float>(*from);
          const auto note = [&](auto value) {
            const auto score = static_cast<float>(value);
            most = larger_or_nan(most, score);
            least = fminf(score, least);
          };
          const auto step = static_cast<uint32_t>(channel);
          constexpr uint32_t kAhead = 8;
          auto left = static_cast<uint32_t>(classes - 1);
#pragma unroll 1
          for (; left >= kAhead; left -= kAhead) {
#pragma unroll
            for (uint32_t a = 1; a <= kAhead; ++a) {
              note(*stepped(from, step, a));
            }
            from = stepped(from, step, kAhead);
          }
          // Past the end, note the last score again.
          if (left > kAhead / 2) {
#pragma unroll
            for (uint32_t a = 1; a <= kAhead; ++a) {
              note(*stepped(from, step, smaller(a, left)));
            }
          } else if (left > 0) {
#pragma unroll
            for (uint32_t a = 1; a <= kAhead / 2; ++a) {
              note(*stepped(from, step, smaller(a, left)));
            }
          }
        }
        // +infinity becomes NaN: the differences of all classes, and so the node's cells, must be
        // NaN.
        maxima[Tile::slot_of(node)] = most == INFINITY ? not_a_number<float>() : most;
        if (!(most - least <= kRange<Tile>)) {
          flags[0] = 1;
        }
      });
    });
  }

  // Where the thread's vector of nodes is for class 0. Null if the thread has none or if the vector
  // does not lie within a row of the map.
  __device__ __forceinline__ const float* own_vector() const {
    if constexpr (Tile::kStack > 1) {
      static_assert(Tile::kLead == 3 && Tile::kPitch == Tile::kLead + Tile::kNodeColumns);
      static_assert(Nodes::Shared::kStaged % 16 == 0 && Tile::kSlots % 4 == 0);
      static_assert(Tile::kColumns % 4 == 0);
      const int own = vector_of[thread];
      const int place = own % kVectors * 4, column = this->first_column() - 1 + place;
      if (tiles.vectors && own < kAllVectors && column >= 0 &&
          column < static_cast<int>(tiles.grid.x.input_size)) {
        const int64_t offset = input[own / kVectors * Tile::kNodeColumns + place];
        if (offset >= 0) {
          return static_cast<const float*>(tiles.input) + (offset - Tile::kLead);
        }
      }
    }
    return nullptr;
  }

  // Stages the classes [first, first + count), with the thread's own_vector(). The caller must wait
  // for the copies. Slots without a node hold zero.
  __device__ __forceinline__ void stage(int32_t first, int count, float* to,
                                        const float* vector) const {
    if (Tile::kStack > 1 && tiles.vectors) {
      stage_vectors(first, count, to, vector);
      __pipeline_commit();
      return;
    }
    with_scores(tiles.input, tiles.type, [&](const auto* scores) {
      const auto channel = static_cast<uint32_t>(tiles.input_strides.channel);
      if (channel == 1) {
        return this->stage_interleaved(count, scores + first, to);
      }
      const auto* const from = scores + uint64_t{channel} * static_cast<uint32_t>(first);
      each_own_node(first / kClasses, [&](int node) { this->stage_node(node, count, from, to); });
    });
    __pipeline_commit();
  }

 private:
  // Calls copy(address of a class's score, its target) for `count` classes from `source` on.
  template <typename scalar_t, typename Copy>
  __device__ __forceinline__ void each_class(int count, const scalar_t* source, float* target,
                                             const Copy& copy) const {
    const auto channel = static_cast<uint32_t>(tiles.input_strides.channel);
    if (count == kClasses) {
#pragma unroll
      for (uint32_t k = 0; k < kClasses; ++k) {
        copy(stepped(source, channel, k), target + k * Tile::kSlots);
      }
    } else {
#pragma unroll 1
      for (uint32_t k = 0; k < static_cast<uint32_t>(count); ++k) {
        copy(stepped(source, channel, k), target + k * Tile::kSlots);
      }
    }
  }

  // Stages the scores of a node. `from` points to the first class's score at offset 0.
  template <typename scalar_t>
  __device__ __forceinline__ void stage_node(int node, int count, const scalar_t* from,
                                             float* to) const {
    const int64_t offset = input[node];
    if (offset >= 0) {
      each_class(count, from + offset, to + Tile::slot_of(node),
                 [](const scalar_t* score, float* slot) { copy_score(score, slot); });
    }
  }

  // Stages all nodes where classes are adjacent: neighboring threads copy neighboring classes.
  template <typename scalar_t>
  __device__ __forceinline__ void stage_interleaved(int count, const scalar_t* from,
                                                    float* to) const {
    constexpr int kAhead = 4;
    int64_t offset[kAhead];
    if constexpr (Tile::kStack == 1) {
      each_class_of_nodes<kAhead>(
          count, [&](int, int node, int a) { offset[a] = input[node]; },
          [&](int k, int node, int a) {
            if (offset[a] >= 0) {
              copy_score(from + k + offset[a], to + k * Tile::kSlots + node);
            }
          });
    } else {
      // Copies a row of nodes at a time, and in the end what is left of each row.
      constexpr int kRows = Tile::kRows + 1, kColumns = Tile::kThreads / kClasses;
      const auto k = static_cast<int>(index() % kClasses);
      const auto own = static_cast<int>(index() / kClasses);
      if (k >= count) {
        return;
      }
      const auto* const source = from + k;
      float* const target = to + k * Tile::kSlots + Tile::kLead;
      const auto copy = [&](int row, int column, int64_t of_node) {
        if (of_node >= 0) {
          copy_score(source + of_node, target + row * Tile::kPitch + column);
        }
      };
      if (own < smaller(kColumns, Tile::kNodeColumns)) {
#pragma unroll
        for (int first = 0; first < kRows; first += kAhead) {
#pragma unroll
          for (int a = 0; a < kAhead && first + a < kRows; ++a) {
            offset[a] = input[(first + a) * Tile::kNodeColumns + own];
          }
#pragma unroll
          for (int a = 0; a < kAhead && first + a < kRows; ++a) {
            copy(first + a, own, offset[a]);
          }
        }
      }
      if constexpr (kColumns < Tile::kNodeColumns) {
        static_assert(kColumns + 1 == Tile::kNodeColumns && kRows <= kColumns);
        if (own < kRows) {
          copy(own, kColumns, input[own * Tile::kNodeColumns + kColumns]);
        }
      }
    }
  }

  // Stages the thread's vector, or its nodes one by one.
  __device__ __forceinline__ void stage_vectors(int32_t first, int count, float* to,
                                                const float* vector) const {
    const auto offset =
        uint64_t{static_cast<uint32_t>(tiles.input_strides.channel)} * static_cast<uint32_t>(first);
    const int own = vector_of[thread];
    if (vector != nullptr) {
      each_class(count, vector + offset, to + 4 * own, copy_four);
    } else if (own < kAllVectors) {
      const auto* const from = static_cast<const float*>(tiles.input) + offset;
      const int place = own % kVectors * 4;
      const int last = own / kVectors * Tile::kNodeColumns + place;
#pragma unroll 1
      for (int node = place == 0 ? last : last - Tile::kLead; node <= last; ++node) {
        stage_node(node, count, from, to);
      }
    }
  }
};

}  // namespace softmax
}  // namespace fcn_ext
