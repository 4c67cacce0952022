// What the tile kernels of region_sums share: their beginning, and the pixels of one class.
#pragma once

#include "cross_entropy/cuda/tile_losses.cuh"
#include "softmax/cuda/sweeps.cuh"

namespace fcn_ext {
namespace region_sums {

using cross_entropy::kIgnoredCode;
using cross_entropy::kInvalidCode;
using cross_entropy::TileArgs;
using cross_entropy::TileBlock;

// A thread's values, by pixel number: those of the pixels of one class, zero for others.
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

// The block of both kernels.
template <typename Tile>
struct RegionBlock : TileBlock<Tile, true> {
  using Base = TileBlock<Tile, true>;
  using Base::args;
  using Base::thread;

  __device__ __forceinline__ explicit RegionBlock(const TileArgs& given) : Base(given) {}

  // Returns whether the tile has pixels; if so, labels, nodes and maxima are in shared memory.
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

  // The class of a pixel that is computed again.
  __device__ __forceinline__ int32_t label_of(const ExactPixel<Tile, true>& pixel) const {
    return static_cast<int32_t>(this->codes[Base::code_index(pixel.j, pixel.i, pixel.owner)]);
  }

  // Notes the pixels to be computed again, whose `mark` is -infinity, and sets that to zero.
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

}  // namespace region_sums
}  // namespace fcn_ext
