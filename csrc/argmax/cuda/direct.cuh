// Predictions of any bilinear map, one pixel per thread, for what cells cannot handle: ratios below
// one or above 32, and outputs that all lie on nodes.
//
// A thread loops over the classes of its pixel and reads four scores for each. Lanes follow a row
// of the output; neighbors share scores in the L1 cache. Labels are stored or counted.
#pragma once

#include <cmath>

#include "argmax/cuda/mixed.cuh"
#include "argmax/cuda/output.cuh"
#include "bilinear/cuda/taps.cuh"
#include "common/cuda/labels.cuh"

namespace fcn_ext {
namespace argmax {

constexpr int kDirectBlocks = 4;  // per multiprocessor

// The logit of one pixel, class by class. Nodes without a weight are not read.
template <typename scalar_t>
class PixelScores {
  using accumulate_t = accumulate_of<scalar_t>;

 public:
  __device__ __forceinline__ PixelScores(const BilinearShape& shape, const scalar_t* input,
                                         const PlaneStrides& strides, int64_t image, int64_t y,
                                         int64_t x)
      : y_(weighted_tap<accumulate_t>(shape.y, y)),
        x_(weighted_tap<accumulate_t>(shape.x, x)),
        channel_(strides.channel),
        row_(strides.row),
        column_(strides.column) {
    start_ = input + image * strides.batch + y_.node * strides.row + x_.node * strides.column;
  }

  __device__ __forceinline__ accumulate_t operator()(int64_t channel) const {
    const scalar_t* score = start_ + channel * channel_;
    const accumulate_t top = y_.lower != 0 ? of_row(score) : accumulate_t(0);
    const accumulate_t bottom = y_.upper != 0 ? of_row(score + row_) : accumulate_t(0);
    return y_.lower * top + y_.upper * bottom;
  }

 private:
  __device__ __forceinline__ accumulate_t of_row(const scalar_t* score) const {
    const accumulate_t left = x_.lower != 0 ? at(score) : accumulate_t(0);
    const accumulate_t right = x_.upper != 0 ? at(score + column_) : accumulate_t(0);
    return x_.lower * left + x_.upper * right;
  }
  __device__ __forceinline__ static accumulate_t at(const scalar_t* score) {
    return static_cast<accumulate_t>(load_vector<1>(score).values[0]);
  }

  WeightedTap<accumulate_t> y_, x_;
  int64_t channel_, row_, column_;
  const scalar_t* start_;
};

__device__ __forceinline__ void store_label(void* labels, int type, int64_t pixel, int32_t label) {
  with_labels(labels, type, [&](auto* map) {
    map[pixel] = static_cast<std::remove_pointer_t<decltype(map)>>(label);
  });
}

template <typename scalar_t>
__global__ void __launch_bounds__(kThreads, kDirectBlocks)
    direct_argmax_kernel(BilinearShape shape, const scalar_t* input, PlaneStrides strides,
                         confusion::PixelRows rows, ArgmaxOutput output) {
  using accumulate_t = accumulate_of<scalar_t>;
  const confusion::Counter counter(output.counts);
  counter.clear();
  const LabelMap& target = output.target;
  const confusion::MapRows map{target.data, target.type, 0, 0, target.stride[2]};
  confusion::each_piece(rows, [&](int64_t row, int64_t piece) {
    const int64_t image = row / rows.per_image, y = row % rows.per_image;
    const int64_t x = piece * kWarp + threadIdx.x % kWarp;
    int32_t winner = 0;
    if (x < rows.width) {
      const PixelScores<scalar_t> scores(shape, input, strides, image, y, x);
      accumulate_t best = -HUGE_VAL;
#pragma unroll 4
      for (int32_t c = 0; c < static_cast<int32_t>(shape.channels); ++c) {
        const accumulate_t value = scores(c);
        const bool better = careful_better(value, best);
        best = better ? value : best;
        winner = better ? c : winner;
      }
      if (output.labels != nullptr) {
        store_label(output.labels, output.type, row * rows.width + x, winner);
      }
    }
    if (output.labels == nullptr) {
      uint32_t pixels[1];
      confusion::load_labels(map, image * target.stride[0] + y * target.stride[1], x, rows.width,
                             output.counts.ignore_index, pixels);
      pixels[0] = pixels[0] << 16 | static_cast<uint32_t>(winner);
      confusion::count_runs(counter, pixels);
    }
  });
  counter.flush();
}

// Rows of the output, distributed over as many blocks as run at once.
inline confusion::PixelRows output_rows(const BilinearShape& shape, unsigned& blocks) {
  constexpr int64_t kWarps = kThreads / kWarp;
  const int64_t width = shape.x.output_size, rows = shape.batch * shape.y.output_size;
  const int64_t pieces = ceil_divide(width, kWarp);
  const int64_t needed = ceil_divide(rows * pieces, kWarps);
  const int64_t count =
      larger(smaller<int64_t>(needed, int64_t{device_limits().multiprocessors} * kDirectBlocks),
             ceil_divide(rows * width, kMostPixelsOfBlock));
  blocks = static_cast<unsigned>(smaller(count, kMostBlocks));
  const int64_t warps = blocks * kWarps;
  return {rows, width, shape.y.output_size, pieces, warps / pieces, warps % pieces};
}

}  // namespace argmax
}  // namespace fcn_ext
