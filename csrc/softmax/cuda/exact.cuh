// Pixels whose sum of powers vanishes beside the bound from the nodes' maxima: the whole block
// computes them again, one by one.
#pragma once

#include "cells/cuda/weights.cuh"
#include "softmax/cuda/node_gradients.cuh"

namespace fcn_ext {
namespace softmax {

// A pixel that is computed again.
template <typename Tile, bool with_gradient>
struct ExactPixel {
  using Nodes = TileNodes<Tile, with_gradient>;

  const TileGradients<Tile, with_gradient>& block;
  int owner, j, i;  // its thread, and its place among the thread's pixels
  int cell;
  int32_t row, column;  // of the output
  CellWeights<double> y, x;

  __device__ __forceinline__ ExactPixel(const TileGradients<Tile, with_gradient>& of, int thread,
                                        int pixel)
      : block(of), owner(thread), j(pixel / Tile::kSide), i(pixel % Tile::kSide) {
    const int lane = owner % Tile::kLanes, which = Tile::which_of(j);
    cell = static_cast<int>(Nodes::cell_of(static_cast<unsigned>(owner / Tile::kLanes), which));
    const int row_part = cell / Tile::kColumns * Tile::kSegments + lane / Tile::kSegments;
    const int column_part = cell % Tile::kColumns * Tile::kSegments + lane % Tile::kSegments;
    row = Nodes::span_of(block.row_begins, static_cast<unsigned>(row_part)).begin + j -
          which * Tile::kSide;
    column = Nodes::span_of(block.column_begins, static_cast<unsigned>(column_part)).begin + i;
    int64_t node = 0;
    y = cell_weights<double>(block.tiles.grid.y, row, node);
    x = cell_weights<double>(block.tiles.grid.x, column, node);
  }

  // Calls body(node, weight) for the corners of the cell whose weight is not zero.
  template <typename Body>
  __device__ __forceinline__ void each_corner(const Body& body) const {
#pragma unroll 1
    for (int k = 0; k < 4; ++k) {
      const double weight = (k / 2 == 0 ? y.lower : y.upper) * (k % 2 == 0 ? x.lower : x.upper);
      if (weight != 0) {
        body(block.corner_node(cell, k), weight);
      }
    }
  }

  // A class's score, relative to the largest scores of the nodes.
  __device__ __forceinline__ double score(int32_t c) const {
    double sum = 0;
    each_corner([&](int node, double weight) {
      if (block.input[node] != kNoNode) {
        const float value =
            score_at(block.tiles, block.input[node] + c * block.tiles.input_strides.channel);
        sum += weight * (static_cast<double>(value) - block.maxima[Tile::slot_of(node)]);
      }
    });
    return sum;
  }
};

// For each pixel in block.exact, calls visit(pixel, its largest score, the sum of exp(score -
// largest)) in all threads. Scores are in double, relative to the nodes' largest scores. Each
// thread takes every Tile::kThreads-th class.
template <typename Tile, bool with_gradient, typename Visit>
__device__ __forceinline__ void each_exact_pixel(const TileGradients<Tile, with_gradient>& block,
                                                 const Visit& visit) {
  const int32_t classes = block.tiles.classes;
  for (int owner = 0; owner < Tile::kThreads; ++owner) {
    for (unsigned long long left = block.exact[owner]; left != 0; left &= left - 1) {
      const ExactPixel<Tile, with_gradient> pixel(block, owner,
                                                  __ffsll(static_cast<long long>(left)) - 1);
      double most = -INFINITY;
      for (int32_t c = block.thread; c < classes; c += Tile::kThreads) {
        most = larger(most, pixel.score(c));
      }
      __syncthreads();
      block.scratch[block.thread] = most;
      __syncthreads();
      for (int k = 0; k < Tile::kThreads; ++k) {
        most = larger(most, block.scratch[k]);
      }
      double sum = 0;
      for (int32_t c = block.thread; c < classes; c += Tile::kThreads) {
        sum += std::exp(static_cast<float>(pixel.score(c) - most));
      }
      visit(pixel, most, block_sum(sum, block.scratch));
    }
  }
}

// factor_of(pixel) is the derivative with respect to a pixel's log-sum. Every thread calls
// take(pixel, factor times the log-sum). `scale` multiplies the gradient only.
template <typename Tile, bool with_gradient, typename FactorOf, typename Take>
__device__ __forceinline__ void add_exact_pixels(const TileGradients<Tile, with_gradient>& block,
                                                 float scale, const FactorOf& factor_of,
                                                 const Take& take) {
  each_exact_pixel(block, [&](const auto& pixel, double most, double sum) {
    const double factor = factor_of(pixel);
    take(pixel, factor * log_for(factor, most + std::log(sum)));
    if constexpr (with_gradient) {
      for (int32_t c = block.thread; c < block.tiles.classes; c += Tile::kThreads) {
        const double value =
            scale * factor * std::exp(static_cast<float>(pixel.score(c) - most)) / sum;
        pixel.each_corner([&](int node, double weight) {
          if (float* gradient = block.destination(node, c)) {
            *gradient += static_cast<float>(weight * value);
          }
        });
      }
    }
  });
}

}  // namespace softmax
}  // namespace fcn_ext
