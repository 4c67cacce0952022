// The gradient of region sums for a tile of cells, in two sweeps over the classes.
//
// A thread owns up to 8 x 8 pixels of a cell. For each of its pixels, the first sweep sums the
// powers of all classes, and the powers times the gradients of the classes. These two sums and the
// power of the pixel's label give the factors of the pixel's powers in the gradient of the nodes,
// which the second sweep adds up in registers. Pixels whose sum vanishes are computed again, as in
// the forward pass.
//
// Memory touched: the tile's scores, once for the maxima and once per sweep, and again those of its
// labels; the labels; the gradient of the nodes inside, and the tile's part of its rim's.
#pragma once

#include "region_sums/cuda/tile_block.cuh"
#include "softmax/cuda/rims.cuh"

namespace fcn_ext {
namespace region_sums {

// Factors of a thread's pixels, by pixel number.

// For class c: A_c / S + u.
template <typename Tile>
struct ClassFactors {
  const float (&inverse)[Tile::kPixels];
  const float (&common)[Tile::kPixels];
  float of_class;

  __device__ __forceinline__ float operator[](int pixel) const {
    return fmaf(of_class, inverse[pixel], common[pixel]);
  }
};

// For class c: ClassFactors, plus B_c / S in the pixels with that label.
template <typename Tile, typename Block>
struct LabelFactors {
  OwnValues<Tile, Block> own;
  ClassFactors<Tile> factors;
  float of_label;

  __device__ __forceinline__ float operator[](int pixel) const {
    return fmaf(of_label, own[pixel], factors[pixel]);
  }
};

struct TileBackward {
  TileArgs tile;
  const float* grad_sums;    // [3][images][classes]
  const float* grad_losses;  // [2][images] or null
  int64_t images;

  __device__ __forceinline__ float grad(RegionSum row, int64_t n, int32_t c) const {
    return grad_sums[(row * images + n) * tile.terms.classes + c];
  }
};

// Computes a tile up to its end.
template <typename Tile>
__device__ __forceinline__ void visit_tile(const RegionBlock<Tile>& block,
                                           const TileBackward& args) {
  const int32_t classes = args.tile.terms.classes;
  if (!block.begin()) {
    for (int32_t first = 0; first < classes; first += Tile::kClasses) {
      block.set_gradients(first, smaller(Tile::kClasses, classes - first),
                          [](int, int, float) { return 0.0f; });
    }
    return;
  }
  const int64_t n = block.image();
  const float of_loss = args.grad_losses == nullptr ? 0 : args.grad_losses[n];
  // At first the sum of powers and that of powers times A_c; then 1 / S and u, which make the
  // factor of a power A_c / S + u.
  float inverse[Tile::kPixels], common[Tile::kPixels];
#pragma unroll
  for (int pixel = 0; pixel < Tile::kPixels; ++pixel) {
    inverse[pixel] = common[pixel] = 0;
  }
  sweep(block, [&](int32_t first, int count, const float* staged) {
    add_weighted_powers_of_stage(
        block, staged, count, [&](int k) { return args.grad(kProbability, n, first + k); }, inverse,
        common);
  });
  bool any_small = false;
  {
    const Part part = block.part();
    uint32_t current = kIgnoredCode;
    Corners corners{0, 0, 0, 0};
    float of_label = 0, weight = 0;
#pragma unroll
    for (int j = 0; j < Tile::kSide; ++j) {
      if (opaque(block.thread) >= 0) {  // labels of one row at a time
        const auto codes = block.row_codes(j);
        const float y = fminf(fmaf(static_cast<float>(j), part.y_step, part.y()), 1.0f);
#pragma unroll
        for (int i = 0; i < Tile::kSide; ++i) {
          const int pixel = j * Tile::kSide + i;
          const uint32_t code = codes[i];
          if (code != current && code < kInvalidCode) {
            current = code;
            float at[4];
#pragma unroll
            for (int k = 0; k < 4; ++k) {
              const int node = block.own_node(k);
              const int64_t place = block.input[node];
              const float score =
                  place == kNoNode ? 0
                                   : score_at(args.tile.tiles,
                                              place + code * args.tile.tiles.input_strides.channel);
              at[k] = score - block.maxima[Tile::slot_of(node)];
            }
            corners = {at[0], at[1], at[2], at[3]};
            of_label = args.grad(kIntersection, n, static_cast<int32_t>(code));
            weight = args.tile.terms.weight_of(static_cast<int32_t>(code));
          }
          const bool small = inverse[pixel] < kSmallestSum;
          const bool counts = code != kIgnoredCode && !small;
          any_small = any_small || small;
          const float v = counts ? reciprocal_fast(inverse[pixel]) : 0;
          const float x = fminf(fmaf(static_cast<float>(i), part.x_step, part.x()), 1.0f);
          const float left = between(corners.top_left, corners.bottom_left, y, j == 0);
          const float right = between(corners.top_right, corners.bottom_right, y, j == 0);
          const float p = exp2_fast(kNatsToBits * between(left, right, x, i == 0)) * v;
          float own = of_label * p;
          if (of_loss != 0) {
            own -= of_loss * weight;
          }
          const float mean = fmaf(common[pixel], v, own);
          common[pixel] = counts ? -mean * v : 0;
          inverse[pixel] = small ? -INFINITY : v;
          if (code == kInvalidCode) {
            common[pixel] = not_a_number<float>();
          }
        }
      }
    }
  }
  block.note_exact(any_small, inverse);

  sweep(block, [&](int32_t first, int count, const float* staged) {
    const unsigned labels = block.labels_among(first, count);
#pragma unroll 1
    for (int k = 0; k < count; ++k) {
      const int32_t c = first + k;
      const ClassFactors<Tile> factors{inverse, common, args.grad(kProbability, n, c)};
      float corner[4];
      if ((labels >> k & 1) != 0) {
        const auto code = static_cast<uint32_t>(c);
        const LabelFactors<Tile, RegionBlock<Tile>> with_own{
            {block, code, inverse}, factors, args.grad(kIntersection, n, c)};
        corner_sums_of_class(block, staged + k * Tile::kSlots, with_own, corner);
        if (of_loss != 0) {
          const auto weights = block.weights_of(code);
          const float factor = of_loss * args.tile.terms.weight_of(c);
#pragma unroll
          for (int which = 0; which < 4; ++which) {
            corner[which] -= weights.at[which] != 0 ? factor * weights.at[which] : 0;
          }
        }
      } else {
        corner_sums_of_class(block, staged + k * Tile::kSlots, factors, corner);
      }
      block.keep(corner, block.own_corner() + k * Tile::kCornerPitch);
    }
    __syncthreads();
    block.set_gradients(first, count, [](int, int, float sum) { return sum; });
  });
  __syncthreads();
  if (block.flags[1] != 0) {
    each_exact_pixel(block, [&](const auto& pixel, double most, double sum) {
      const int32_t label = block.label_of(pixel);
      const auto probability = [&](int32_t c) {
        return std::exp(static_cast<float>(pixel.score(c) - most)) / sum;
      };
      double mean = 0;
      for (int32_t c = block.thread; c < classes; c += Tile::kThreads) {
        mean += static_cast<double>(args.grad(kProbability, n, c)) * probability(c);
      }
      mean = block_sum(mean, block.scratch);
      double own = static_cast<double>(args.grad(kIntersection, n, label)) * probability(label);
      // The label's part of the loss is in the gradient already.
      const double of_entropy = of_loss == 0
                                    ? 0
                                    : static_cast<double>(of_loss) *
                                          static_cast<double>(args.tile.terms.weight_of(label));
      mean += own - of_entropy;
      for (int32_t c = block.thread; c < classes; c += Tile::kThreads) {
        double value = probability(c) * (static_cast<double>(args.grad(kProbability, n, c)) - mean);
        value += c == label ? own : 0;
        pixel.each_corner([&](int node, double weight) {
          if (float* gradient = block.destination(node, c)) {
            *gradient += static_cast<float>(weight * value);
          }
        });
      }
    });
  }
}

template <typename Tile>
__global__ void __launch_bounds__(Tile::kThreads, 2)
    region_gradient_tile_kernel(const TileBackward args) {
  const RegionBlock<Tile> block(args.tile);
  visit_tile(block, args);
  leave_tile(block);
}

}  // namespace region_sums
}  // namespace fcn_ext
