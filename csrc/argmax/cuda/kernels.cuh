// Label maps and counts straight from coarse scores on CUDA: launch_argmax,
// launch_argmax_confusion, launch_argmax_hits. No full-resolution logit is ever stored.
//
// A block walks down a chunk of tiles of cells (tiles.cuh). Each thread finds the two largest
// scores of one node and copies all its scores to shared memory (nodes.cuh). A cell whose corners
// agree on a class that leads by more than rounding has one winner, at no cost per pixel
// (cells.cuh); scores of trained networks leave few other cells. In those, lanes look for the
// classes that may win, and a thread evaluates these at eight pixels in registers (mixed.cuh).
// Labels are gathered in shared memory and stored, or counted, eight pixels at a time (output.cuh).
// If not all classes fit into shared memory, they are staged some at a time, and again for tiles
// with mixed cells. Memory touched: scores once or twice, targets once, labels once.
#pragma once

#include "argmax/cuda/direct.cuh"
#include "argmax/cuda/mixed.cuh"
#include "argmax/cuda/output.cuh"
#include "argmax/cuda/probability.cuh"
#include "common/cuda/arrivals.cuh"

namespace fcn_ext {
namespace argmax {

template <typename accumulate_t, int band>
__global__ void __launch_bounds__(kThreads, kBlocks<accumulate_t>)
    argmax_tiles_kernel(const ArgmaxArgs args, const ArgmaxOutput output) {
  const ArgmaxTiles& tiles = args.tiles;
  const auto channels = static_cast<int>(args.shape.channels);
  // The counter is not held in a variable, which would take registers during all tiles.
  confusion::Counter(output.counts).clear();
  each_tile<accumulate_t, band>(args, [&](const Tile<accumulate_t>& tile) {
    if (threadIdx.x == 0) {
      *tile.mixed_count() = 0;
    }
    if (threadIdx.x < kSurvivorBins) {
      tile.survivor_bins()[threadIdx.x] = 0;
    }
    locate_rows(args, output, tile);
    for (int first_class = 0; first_class < channels; first_class += tiles.staged) {
      take_classes(args, tile, first_class, smaller(tiles.staged, channels - first_class));
    }
    __syncthreads();
    if (tiles.parts > 1) {
      merge_parts(tiles, tile);
      __syncthreads();
    }
    classify_cells<band>(args, tile);
    __syncthreads();
    if (*tile.mixed_count() > 0) {
      evaluate_mixed<accumulate_t, band>(args, tile);
      __syncthreads();
    }
    emit_tile(args, output, tile);
  });
  confusion::Counter(output.counts).flush();
}

// Sets the number of histograms per block and returns their bytes; none if a matrix is too large or
// has more bins than there are pixels.
inline int64_t choose_histogram(const BilinearShape& shape, confusion::Counts& counts) {
  constexpr int64_t kMostCopies = kThreads / kWarp, kCopiesBytes = 16 << 10;
  const int64_t bins = counts.hits ? 2 : shape.channels * shape.channels;
  const int64_t bytes = 4 * (bins + 1);
  const int64_t pixels = shape.batch * shape.y.output_size * shape.x.output_size;
  const bool fits = counts.matrix != nullptr && bytes / 4 <= pixels &&
                    bytes <= device_limits().shared_bytes_per_block / 2;
  counts.copies =
      fits ? static_cast<int>(larger<int64_t>(1, smaller(kMostCopies, kCopiesBytes / bytes))) : 0;
  return counts.copies * bytes;
}

// Runs body(band) with the band of the tiles as a compile-time constant.
template <typename accumulate_t, typename Body>
void with_band(const ArgmaxTiles& tiles, const Body& body) {
  if constexpr (std::is_same_v<accumulate_t, double>) {
    return tiles.band == 8 ? body(std::integral_constant<int, 8>())
                           : body(std::integral_constant<int, 32>());
  } else {
    switch (tiles.band) {
      case 2:
        return body(std::integral_constant<int, 2>());
      case 4:
        return body(std::integral_constant<int, 4>());
      case 8:
        return body(std::integral_constant<int, 8>());
      case 16:
        return body(std::integral_constant<int, 16>());
      default:
        return body(std::integral_constant<int, 32>());
    }
  }
}

template <typename accumulate_t>
void launch_tiles(const ArgmaxArgs& args, const ArgmaxOutput& output, cudaStream_t stream) {
  const ArgmaxTiles& tiles = args.tiles;
  // With a histogram, no more blocks than run at once, unless its 32-bit bins could overflow.
  const DeviceLimits limits = device_limits();
  const int64_t by_memory =
      (limits.shared_bytes_per_block + kSystemBytes) / (tiles.layout.bytes + kSystemBytes);
  const int64_t resident = limits.multiprocessors *
                           larger<int64_t>(1, smaller<int64_t>(kBlocks<accumulate_t>, by_memory));
  const int64_t pixels = args.shape.batch * args.shape.y.output_size * args.shape.x.output_size;
  const int64_t most = output.counts.copies > 0
                           ? larger(resident, ceil_divide(pixels, kMostPixelsOfBlock))
                           : kMostBlocks;
  const dim3 grid(static_cast<unsigned>(smaller<int64_t>(tiles.items, most)));
  with_band<accumulate_t>(tiles, [&](auto band) {
    launch(argmax_tiles_kernel<accumulate_t, decltype(band)::value>, grid, dim3(kThreads),
           static_cast<size_t>(tiles.layout.bytes), stream, args, output);
  });
}

template <typename scalar_t>
bool make_args(const BilinearShape& shape, const scalar_t* input, const PlaneStrides& strides,
               int64_t histogram_bytes, ArgmaxArgs& args) {
  args = {shape, {}, input, kElementType<scalar_t>, strides};
  const bool interleaved = strides.channel == 1 && strides.column != 1 && shape.channels > 1;
  if (!make_tiles(shape, interleaved, sizeof(accumulate_of<scalar_t>), histogram_bytes,
                  args.tiles)) {
    return false;
  }
  args.tiles.near = strides.channel >= 0 && args.tiles.parts * strides.channel <= UINT32_MAX;
  return true;
}

template <typename scalar_t>
void launch_predictions(const BilinearShape& shape, const scalar_t* input,
                        const PlaneStrides& strides, ArgmaxOutput output, cudaStream_t stream) {
  ArgmaxArgs args;
  const int64_t histogram_bytes = choose_histogram(shape, output.counts);
  if (make_args(shape, input, strides, histogram_bytes, args)) {
    return launch_tiles<accumulate_of<scalar_t>>(args, output, stream);
  }
  unsigned blocks = 0;
  const confusion::PixelRows rows = output_rows(shape, blocks);
  launch(direct_argmax_kernel<scalar_t>, dim3(blocks), dim3(kThreads),
         static_cast<size_t>(histogram_bytes), stream, shape, input, strides, rows, output);
}

template <typename scalar_t>
void launch_probability(const BilinearShape& shape, const scalar_t* input,
                        const PlaneStrides& strides, const void* labels, int label_type,
                        accumulate_of<scalar_t>* probability, cudaStream_t stream) {
  // Sums in double take more registers than there are, so they take one pixel per thread.
  if constexpr (!std::is_same_v<scalar_t, double>) {
    ArgmaxArgs args;
    if (make_args(shape, input, strides, 0, args)) {
      return with_band<float>(args.tiles, [&](auto band) {
        launch(probability_tiles_kernel<decltype(band)::value>,
               dim3(static_cast<unsigned>(args.tiles.items)), dim3(kThreads),
               static_cast<size_t>(args.tiles.layout.bytes), stream, args, labels, label_type,
               probability);
      });
    }
  }
  unsigned blocks = 0;
  const confusion::PixelRows rows = output_rows(shape, blocks);
  launch(direct_probability_kernel<scalar_t>, dim3(blocks), dim3(kThreads), 0, stream, shape, input,
         strides, rows, labels, label_type, probability);
}

}  // namespace argmax

// The label maps of bilinearly resampled scores: the class with the largest logit, the lowest among
// equal ones, with NaN as the greatest, as in torch.argmax. Logits are sums of products of scores
// and weights, along rows first, as in launch_bilinear_forward.
//
// labels: dense (N, H, W), of one of LabelMap's types that holds every class; 1 to 2^15 classes.
// probability: dense (N, H, W), the softmax of the logits at the label, or null.
template <typename scalar_t>
void launch_argmax(const BilinearShape& shape, const scalar_t* input, const PlaneStrides& strides,
                   void* labels, int label_type, accumulate_of<scalar_t>* probability,
                   cudaStream_t stream) {
  if (shape.batch * shape.y.output_size * shape.x.output_size == 0) {
    return;
  }
  argmax::launch_predictions(shape, input, strides, {labels, label_type, {}, {}}, stream);
  if (probability != nullptr) {
    argmax::launch_probability(shape, input, strides, labels, label_type, probability, stream);
  }
}

// Adds to matrix (C, C), rows = target, the number of pixels of each pair of target and predicted
// class, and to invalid the number of pixels whose target is neither ignore_index nor a class.
template <typename scalar_t>
void launch_argmax_confusion(const BilinearShape& shape, const scalar_t* input,
                             const PlaneStrides& strides, const LabelMap& target,
                             int64_t ignore_index, int64_t* matrix, int64_t* invalid,
                             cudaStream_t stream) {
  if (shape.batch * shape.y.output_size * shape.x.output_size == 0) {
    return;
  }
  const confusion::Counts counts{static_cast<int32_t>(shape.channels), ignore_index, 0,
                                 reinterpret_cast<unsigned long long*>(matrix),
                                 reinterpret_cast<unsigned long long*>(invalid)};
  argmax::launch_predictions(shape, input, strides, {nullptr, 0, target, counts}, stream);
}

// hits: the number of pixels whose target is a class and not ignore_index, and of those among them
// whose predicted class is the target.
template <typename scalar_t>
void launch_argmax_hits(const BilinearShape& shape, const scalar_t* input,
                        const PlaneStrides& strides, const LabelMap& target, int64_t ignore_index,
                        int64_t* hits, cudaStream_t stream) {
  auto* const numbers = reinterpret_cast<unsigned long long*>(hits);
  launch_clear_arrivals(numbers, 2, stream);
  if (shape.batch * shape.y.output_size * shape.x.output_size == 0) {
    return;
  }
  const confusion::Counts counts{
      static_cast<int32_t>(shape.channels), ignore_index, 0, numbers, nullptr, true};
  argmax::launch_predictions(shape, input, strides, {nullptr, 0, target, counts}, stream);
}

}  // namespace fcn_ext
