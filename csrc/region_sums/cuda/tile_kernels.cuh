// The tile kernels: the sums of regions, and their gradient, of a tile of cells in two sweeps over
// the classes, as in the cross-entropy. Not for squared probabilities.
//
// A thread owns up to 8 x 8 pixels of a cell. Forward, the first sweep sums the powers of all
// classes for each of its pixels, and the second adds up, class by class, what they are of that
// sum. Backward, the first sweep also sums them times the gradients of the classes; from both, and
// from its label's power, follows by what factors a pixel's powers come into the gradient of the
// nodes, which the second adds up in registers. Pixels whose sum vanishes beside the bound that the
// nodes' maxima give are computed again, one by one, by the whole block.
//
// Memory touched: the tile's scores once for the maxima, once a sweep, and those of its labels; the
// labels; of each class a part of the sums, or the gradient of the nodes inside and of the rim its
// part.
#pragma once

#include "cross_entropy/cuda/tile_losses.cuh"
#include "region_sums/cuda/direct.cuh"
#include "softmax/cuda/rims.cuh"
#include "softmax/cuda/sweeps.cuh"

namespace fcn_ext {
namespace region_sums {

using cross_entropy::kIgnoredCode;
using cross_entropy::kInvalidCode;
using cross_entropy::TileArgs;
using cross_entropy::TileBlock;

// Factors of a thread's pixels by their number.

// Those of one class, the others zero.
template <typename Tile, typename Block>
struct OwnValues {
  const Block& block;
  uint32_t code;
  const float (&values)[Tile::kPixels];

  __device__ __forceinline__ bool is_own(int pixel) const {
    return block.code(pixel / Tile::kSide, pixel % Tile::kSide) == code;
  }
  __device__ __forceinline__ float operator[](int pixel) const {
    return is_own(pixel) ? values[pixel] : 0;
  }
};

// A_c / S + u.
template <typename Tile>
struct ClassFactors {
  const float (&inverse)[Tile::kPixels];
  const float (&common)[Tile::kPixels];
  float of_class;

  __device__ __forceinline__ float operator[](int pixel) const {
    return fmaf(of_class, inverse[pixel], common[pixel]);
  }
};

// The same, with B_c for the pixels of the class.
template <typename Tile, typename Block>
struct LabelFactors {
  OwnValues<Tile, Block> own;
  ClassFactors<Tile> factors;
  float of_label;

  __device__ __forceinline__ float operator[](int pixel) const {
    return fmaf(of_label, own[pixel], factors[pixel]);
  }
};

// What both kernels begin with.
template <typename Tile>
struct RegionBlock : TileBlock<Tile, true> {
  using Base = TileBlock<Tile, true>;
  using Base::args;
  using Base::found;
  using Base::thread;

  __device__ __forceinline__ explicit RegionBlock(const TileArgs& given) : Base(given) {}

  // Whether there are pixels; then labels, nodes and maxima are there.
  __device__ __forceinline__ bool begin() const {
    this->find_cells();
    __syncthreads();
    const bool has_pixels = this->has_pixels();
    if (has_pixels) {
      this->load_labels();
    }
    this->find_nodes();
    __syncthreads();
    if (has_pixels) {
      this->find_maxima();
      this->note_labels();
      __syncthreads();
    }
    return has_pixels;
  }

  // Bit k: class first + k, or one that is it modulo 32, is among the thread's labels.
  __device__ __forceinline__ unsigned hits(int32_t first, int count) const {
    const unsigned here = found[thread], turn = static_cast<unsigned>(first) % 32;
    return (here >> turn | here << (32 - turn) % 32) & ((1u << count) - 1);
  }

  // The class of a pixel that is computed again.
  __device__ __forceinline__ int32_t label_of(const ExactPixel<Tile, true>& pixel) const {
    return static_cast<int32_t>(this->codes[Base::code_index(pixel.j, pixel.i, pixel.owner)]);
  }

  // Notes the pixels to be computed again, and takes them out: those with -infinity in `mark`.
  __device__ __forceinline__ void note_exact(bool any_small, float (&mark)[Tile::kPixels]) const {
    unsigned long long exact = 0;
    if (any_small) {
#pragma unroll
      for (int pixel = 0; pixel < Tile::kPixels; ++pixel) {
        if (mark[pixel] == -INFINITY) {
          const uint32_t code = this->code(pixel / Tile::kSide, pixel % Tile::kSide);
          exact |= code < kInvalidCode ? 1ull << pixel : 0;
          mark[pixel] = 0;
        }
      }
    }
    this->exact[thread] = exact;
    if (exact != 0) {
      this->flags[1] = 1;
    }
  }
};

struct TileForward {
  TileArgs tile;
  bool losses;
  double* sums;           // [tiles][kRows][classes]
  BlockLoss* block_loss;  // [tiles]
};

// Behind the labels' shared memory: of a staged class and thread, the sum of the probabilities of
// its own pixels, and their number.
template <typename Tile>
constexpr int kOwnBytes = 2 * 4 * kTileClasses * kTileThreads;

template <typename Tile>
__global__ void __launch_bounds__(kTileThreads, 2) region_sums_tile_kernel(const TileForward args) {
  const RegionBlock<Tile> block(args.tile);
  const int32_t classes = args.tile.terms.classes;
  const int thread = block.thread, warp = thread / kWarp, lane = thread % kWarp;
  double* const to = args.sums + static_cast<int64_t>(blockIdx.x) * kRows * classes;
  if (!block.begin()) {
    for (int32_t k = thread; k < kRows * classes; k += kTileThreads) {
      to[k] = 0;
    }
    if (thread == 0 && args.losses) {
      args.block_loss[blockIdx.x] = {0, 0};
    }
    return;
  }
  auto* own =
      reinterpret_cast<float*>(shared_memory<unsigned char>() +
                               (cross_entropy::LabelShared<Tile, true>::kBytes + 15) / 16 * 16);

  float inverse[Tile::kPixels];
#pragma unroll
  for (float& value : inverse) {
    value = 0;
  }
  sweep(block, [&](int32_t, int count, const float* staged) {
    add_powers_of_stage(block, staged, count, inverse);
  });
  float log_sums = 0;
  bool any_small = false;
#pragma unroll
  for (int j = 0; j < Tile::kSide; ++j) {
    if (opaque(block.thread) >= 0) {  // labels of one row at a time
      const auto codes = block.row_codes(j);
#pragma unroll
      for (int i = 0; i < Tile::kSide; ++i) {
        float& pixel = inverse[j * Tile::kSide + i];
        const uint32_t code = codes[i];
        const bool small = pixel < kSmallestSum;
        const bool counts = code != kIgnoredCode && !small;
        const float powers = counts ? pixel : 1;
        any_small = any_small || small;
        if (args.losses && counts) {
          const float weight = code < kInvalidCode
                                   ? args.tile.terms.weight_of(static_cast<int32_t>(code))
                                   : not_a_number<float>();
          log_sums = fmaf(weight, log_for(weight, log_of_normal(powers)), log_sums);
        }
        pixel = small ? -INFINITY : counts ? reciprocal_fast(powers) : 0;
        pixel = code == kInvalidCode ? not_a_number<float>() : pixel;
      }
    }
  }
  block.note_exact(any_small, inverse);
  block.loss[thread] += static_cast<double>(log_sums);

  sweep(block, [&](int32_t first, int count, const float* staged) {
    sum_corners_of_stage(block, staged, count, inverse);
    const unsigned hits = block.hits(first, count);
#pragma unroll 1
    for (int k = 0; k < count; ++k) {
      float intersection = 0, pixels = 0;
      if ((hits >> k & 1) != 0) {
        const auto code = static_cast<uint32_t>(first + k);
        const OwnValues<Tile, RegionBlock<Tile>> own_values{block, code, inverse};
        float corner[4];
        corner_sums_of_class(block, staged + k * Tile::kNodes, own_values, corner);
        intersection = (corner[0] + corner[1]) + (corner[2] + corner[3]);
#pragma unroll
        for (int pixel = 0; pixel < Tile::kPixels; ++pixel) {
          pixels += own_values.is_own(pixel) ? 1 : 0;
        }
        if (args.losses && block.flags[0] == 0) {
          const auto weights = block.weights_of(code);
          block.take_from_loss(first + k, block.worth_of(weights, [&](int node) {
            return staged[k * Tile::kNodes + node] - block.maxima[node];
          }));
        }
      }
      own[k * kTileThreads + thread] = intersection;
      own[(kTileClasses + k) * kTileThreads + thread] = pixels;
    }
    __syncthreads();
    for (int k = warp; k < count; k += kTileThreads / kWarp) {
      float values[3] = {0, 0, 0};  // by RegionSum
      for (int at = lane; at < 4 * Tile::kCells; at += kWarp) {
        values[kProbability] += block.corners[k * Tile::kCornerPitch + at];
      }
      for (int at = lane; at < kTileThreads; at += kWarp) {
        values[kIntersection] += own[k * kTileThreads + at];
        values[kCount] += own[(kTileClasses + k) * kTileThreads + at];
      }
#pragma unroll
      for (int row = 0; row < 3; ++row) {
        const float sum = sum_over_warp(values[row]);
        if (lane == row) {
          to[static_cast<int64_t>(row) * classes + first + k] = static_cast<double>(sum);
        }
      }
    }
  });
  if (args.losses && block.flags[0] != 0) {
    block.take_labels_exactly();
  }
  __syncthreads();
  double loss = block.loss[thread];
  if (block.flags[1] != 0) {
    each_exact_pixel(block, [&](const auto& pixel, double most, double sum) {
      const int32_t label = block.label_of(pixel);
      for (int32_t c = thread; c < classes; c += kTileThreads) {
        const double p = std::exp(static_cast<float>(pixel.score(c) - most)) / sum;
        to[kProbability * classes + c] += p;
        if (c == label) {
          to[kIntersection * classes + c] += p;
        }
      }
      if (args.losses && thread == pixel.owner) {
        // What the label takes from it is in the loss already.
        const double weight = static_cast<double>(args.tile.terms.weight_of(label));
        loss += weight * log_for(weight, most + std::log(sum));
      }
    });
  }
  if (args.losses) {
    loss = block_sum(loss, block.scratch);
    const double weight = block_sum(static_cast<double>(block.weights[thread]), block.scratch);
    if (thread == 0) {
      args.block_loss[blockIdx.x] = {loss, weight};
    }
  }
}

struct TileBackward {
  TileArgs tile;
  const float* grad_sums;    // [3][images][classes]
  const float* grad_losses;  // [2][images] or null
  int64_t images;

  __device__ __forceinline__ float grad(RegionSum row, int64_t n, int32_t c) const {
    return grad_sums[(row * images + n) * tile.terms.classes + c];
  }
};

template <typename Tile>
__global__ void __launch_bounds__(kTileThreads, 2)
    region_gradient_tile_kernel(const TileBackward args) {
  const RegionBlock<Tile> block(args.tile);
  const int32_t classes = args.tile.terms.classes;
  if (!block.begin()) {
    for (int32_t first = 0; first < classes; first += kTileClasses) {
      block.set_gradients(first, smaller(kTileClasses, classes - first),
                          [](int, int, float) { return 0.0f; });
    }
    return;
  }
  const int64_t n = block.image();
  const float of_loss = args.grad_losses == nullptr ? 0 : args.grad_losses[n];
  // First sums of powers, and of them times A_c; then 1 / S, and u, so that the factor of a power
  // is A_c / S + u.
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
    const PixelSteps& steps = args.tile.tiles.grid.steps;
    uint32_t current = kIgnoredCode;
    Corners corners{0, 0, 0, 0};
    float of_label = 0, weight = 0;
#pragma unroll
    for (int j = 0; j < Tile::kSide; ++j) {
      if (opaque(block.thread) >= 0) {  // labels of one row at a time
        const auto codes = block.row_codes(j);
        const float y = fminf(fmaf(static_cast<float>(j), steps.y, part.y), 1.0f);
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
              at[k] = score - block.maxima[node];
            }
            corners = {at[0], at[1], at[2], at[3]};
            of_label = args.grad(kIntersection, n, static_cast<int32_t>(code));
            weight = args.tile.terms.weight_of(static_cast<int32_t>(code));
          }
          const bool small = inverse[pixel] < kSmallestSum;
          const bool counts = code != kIgnoredCode && !small;
          any_small = any_small || small;
          const float v = counts ? reciprocal_fast(inverse[pixel]) : 0;
          const float x = fminf(fmaf(static_cast<float>(i), steps.x, part.x), 1.0f);
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
    const unsigned hits = block.hits(first, count);
#pragma unroll 1
    for (int k = 0; k < count; ++k) {
      const int32_t c = first + k;
      const ClassFactors<Tile> factors{inverse, common, args.grad(kProbability, n, c)};
      float corner[4];
      if ((hits >> k & 1) != 0) {
        const auto code = static_cast<uint32_t>(c);
        const LabelFactors<Tile, RegionBlock<Tile>> with_own{
            {block, code, inverse}, factors, args.grad(kIntersection, n, c)};
        corner_sums_of_class(block, staged + k * Tile::kNodes, with_own, corner);
        if (of_loss != 0) {
          const auto weights = block.weights_of(code);
          const float factor = of_loss * args.tile.terms.weight_of(c);
#pragma unroll
          for (int which = 0; which < 4; ++which) {
            corner[which] -= weights.at[which] != 0 ? factor * weights.at[which] : 0;
          }
        }
      } else {
        corner_sums_of_class(block, staged + k * Tile::kNodes, factors, corner);
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
      for (int32_t c = block.thread; c < classes; c += kTileThreads) {
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
      for (int32_t c = block.thread; c < classes; c += kTileThreads) {
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

}  // namespace region_sums
}  // namespace fcn_ext
