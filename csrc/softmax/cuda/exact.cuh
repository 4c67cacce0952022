// Pixels whose sum of powers vanishes beside the bound that the nodes' maxima give: computed again,
// one by one, by the whole block.
#pragma once

#include "cells/cuda/weights.cuh"
#include "softmax/cuda/node_gradients.cuh"

namespace fcn_ext {
namespace softmax {

// Pixels in block.exact: in double, with the pixel's own maximum. A thread takes every
// kTileThreads-th class. factor_of(pixel, owner) is the derivative by the log-sum of a pixel of
// thread `owner`; take(pixel, owner, factor times the log-sum) is called by every thread.
template <typename Tile, bool with_gradient, typename FactorOf, typename Take>
__device__ __forceinline__ void add_exact_pixels(const TileGradients<Tile, with_gradient>& block,
                                                 const FactorOf& factor_of, const Take& take) {
  using Nodes = TileNodes<Tile, with_gradient>;
  const SoftmaxTiles& tiles = block.tiles;
  const int32_t classes = tiles.classes;
  for (int owner = 0; owner < kTileThreads; ++owner) {
    for (unsigned long long left = block.exact[owner]; left != 0; left &= left - 1) {
      const int pixel = __ffsll(static_cast<long long>(left)) - 1;
      const int cell = owner / Tile::kLanes, segment = owner % Tile::kLanes;
      const int row_part = cell / Tile::kColumns * Tile::kSegments + segment / Tile::kSegments;
      const int column_part = cell % Tile::kColumns * Tile::kSegments + segment % Tile::kSegments;
      int64_t node = 0;
      const auto y = cell_weights<double>(
          tiles.grid.y, Nodes::span_of(block.row_begins, row_part).begin + pixel / Tile::kSide,
          node);
      const auto x = cell_weights<double>(
          tiles.grid.x,
          Nodes::span_of(block.column_begins, column_part).begin + pixel % Tile::kSide, node);
      // Calls body(node, weight) for the corners of the cell that have one.
      const auto each_corner = [&](const auto& body) {
#pragma unroll 1
        for (int k = 0; k < 4; ++k) {
          const double weight = (k / 2 == 0 ? y.lower : y.upper) * (k % 2 == 0 ? x.lower : x.upper);
          if (weight != 0) {
            body(block.corner_node(cell, k), weight);
          }
        }
      };
      const auto score = [&](int32_t c) {
        double sum = 0;
        each_corner([&](int node, double weight) {
          if (block.input[node] != kNoNode) {
            const float value =
                score_at(tiles, block.input[node] + c * tiles.input_strides.channel);
            sum += weight * (static_cast<double>(value) - block.maxima[node]);
          }
        });
        return sum;
      };
      double most = -INFINITY;
      for (int32_t c = block.thread; c < classes; c += kTileThreads) {
        most = larger(most, score(c));
      }
      __syncthreads();
      block.scratch[block.thread] = most;
      __syncthreads();
      for (int k = 0; k < kTileThreads; ++k) {
        most = larger(most, block.scratch[k]);
      }
      double sum = 0;
      for (int32_t c = block.thread; c < classes; c += kTileThreads) {
        sum += std::exp(static_cast<float>(score(c) - most));
      }
      sum = block_sum(sum, block.scratch);
      const double factor = factor_of(pixel, owner);
      take(pixel, owner, factor * log_for(factor, most + std::log(sum)));
      if constexpr (with_gradient) {
        for (int32_t c = block.thread; c < classes; c += kTileThreads) {
          const double value = factor * std::exp(static_cast<float>(score(c) - most)) / sum;
          each_corner([&](int node, double weight) {
            if (float* gradient = block.destination(node, c)) {
              *gradient += static_cast<float>(weight * value);
            }
          });
        }
      }
    }
  }
}

}  // namespace softmax
}  // namespace fcn_ext
