// Pixels whose sum of powers vanishes beside the bound that the nodes' maxima give: computed again,
// one by one, by the whole block.
#pragma once

#include "softmax/cuda/node_gradients.cuh"

namespace fcn_ext {
namespace softmax {

// Pixels in block.exact: in double, with the pixel's own maximum. A thread takes every
// kTileThreads-th class. Returns the sum of their log-sums, weighted, in every thread;
// weight_of(pixel, owner) is that of a pixel of thread `owner`.
template <typename Tile, bool with_gradient, typename WeightOf>
__device__ __forceinline__ double add_exact_pixels(const TileGradients<Tile, with_gradient>& block,
                                                   const WeightOf& weight_of) {
  const SoftmaxTiles& tiles = block.tiles;
  const int32_t classes = tiles.classes;
  double loss = 0;
  for (int owner = 0; owner < kTileThreads; ++owner) {
    for (unsigned long long left = block.exact[owner]; left != 0; left &= left - 1) {
      const int pixel = __ffsll(static_cast<long long>(left)) - 1;
      const int cell = owner / Tile::kLanes, segment = owner % Tile::kLanes;
      const int i = segment % Tile::kSegments * Tile::kSide + pixel % Tile::kSide;
      const int j = segment / Tile::kSegments * Tile::kSide + pixel / Tile::kSide;
      const double x = (i + 0.5) / Tile::kStride, y = (j + 0.5) / Tile::kStride;
      // Calls body(node, weight) for the four corners of the cell.
      const auto each_corner = [&](const auto& body) {
#pragma unroll 1
        for (int k = 0; k < 4; ++k) {
          body(block.corner_node(cell, k), (k / 2 == 0 ? 1 - y : y) * (k % 2 == 0 ? 1 - x : x));
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
      const double factor = weight_of(pixel, owner);
      loss += factor * log_for(factor, most + std::log(sum));
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
  return loss;
}

}  // namespace softmax
}  // namespace fcn_ext
