// How the backward of the resampling engine is divided into blocks, and their shared memory.
#pragma once

#include "bilinear/cuda/taps.cuh"
#include "common/cuda/launch.cuh"

namespace fcn_ext {

constexpr int kBackwardThreads = 256;
// The elements of a row that a thread holds.
template <typename scalar_t>
constexpr int kBackwardElements = sizeof(scalar_t) == 8 ? 4 : 8;
// Resident blocks per multiprocessor: what registers allow without spills. The device that a kernel
// is compiled for and the one that the host plans for use the same rule.
template <typename scalar_t>
__host__ __device__ constexpr int backward_blocks(int capability) {
  return sizeof(scalar_t) == 8 || capability < 90 ? 2 : 3;
}
template <typename scalar_t>
#if defined(__CUDA_ARCH__)
constexpr int kBackwardBlocks = backward_blocks<scalar_t>(__CUDA_ARCH__ / 10);
#else
constexpr int kBackwardBlocks = backward_blocks<scalar_t>(90);
#endif
constexpr int kRowTableSize = 128;
// More adjacent channels than this in a row are split among blocks.
constexpr int kUnsplitChannels = 32;

struct BilinearBackwardTiles {
  int64_t planes;
  int inner;  // adjacent channels in a row, else 1
  int slice;  // how many of them a block owns
  int slices;
  int tile_inputs;  // input columns that a block owns
  int tiles;
  int piece_columns;  // output columns that are summed at once
  int pieces;         // more than one only if a single input column has more readers than that
  int cell;           // whole stride for which the second pass is unrolled, else 0
  int wide_elements;  // in the shared row of a plane
  int plane_threads;
  int column_step;    // columns that a plane's threads cover, one channel each
  int shared_planes;  // planes that share a block
  int chunk_rows;     // input rows that a block walks down; 1 if pieces > 1
  int chunks;
  int plane_blocks;
};

__host__ __device__ __forceinline__ int padded(int index) { return index + index / 32; }

// The byte offsets of the parts of a block's shared memory, and its size.
struct BackwardShared {
  int lower_weights, upper_weights, wide, totals, row_taps, row_first, column_first, bytes;
};

template <typename accumulate_t>
BackwardShared backward_shared(const BilinearBackwardTiles& tiles) {
  const int size = static_cast<int>(sizeof(accumulate_t));
  BackwardShared shared{};
  shared.upper_weights = size * padded(tiles.piece_columns + tiles.cell);
  shared.wide = 2 * shared.upper_weights;
  shared.totals = shared.wide + 2 * size * tiles.shared_planes * padded(tiles.wide_elements);
  const int align = static_cast<int>(alignof(WeightedTap<accumulate_t>));
  shared.row_taps = static_cast<int>(
      ceil_divide(shared.totals + (tiles.pieces > 1 ? size * kBackwardThreads : 0), align) * align);
  shared.row_first =
      shared.row_taps + kRowTableSize * static_cast<int>(sizeof(WeightedTap<accumulate_t>));
  shared.column_first = shared.row_first + 4 * (tiles.chunk_rows + 2);
  shared.bytes = shared.column_first + 4 * (tiles.tile_inputs + 2);
  return shared;
}

template <typename scalar_t>
BilinearBackwardTiles bilinear_backward_tiles(const BilinearShape& shape, bool channels_last,
                                              int vector) {
  constexpr int64_t kElements = kBackwardElements<scalar_t>;
  constexpr int64_t kMostRows = 64;
  BilinearBackwardTiles tiles{};
  const BilinearAxis& x = shape.x;
  tiles.inner = channels_last ? static_cast<int>(shape.channels) : 1;
  tiles.planes = channels_last ? shape.batch : shape.batch * shape.channels;
  tiles.slices = tiles.inner <= kUnsplitChannels
                     ? 1
                     : static_cast<int>(ceil_divide(tiles.inner, 64 / sizeof(scalar_t)));
  tiles.slice = static_cast<int>(ceil_divide(tiles.inner, tiles.slices));
  const int64_t stride = whole_stride(x);
  tiles.cell = tiles.inner == 1 && !may_meet_node(x) && (stride == 2 || stride == 4 || stride == 8)
                   ? static_cast<int>(stride)
                   : 0;

  // The threads of a plane cover whole columns.
  const int64_t most_threads = kBackwardThreads / tiles.slice * tiles.slice;
  const int64_t capacity = most_threads * kElements;
  // Input columns whose readers fit in a block: at most `band` per band, and half as many again in
  // the first one if borders are clamped.
  const int64_t band = most_outputs_of_cell(x);
  const int64_t most_columns = (capacity - vector - tiles.cell) / tiles.slice;
  const int64_t more = 2 + (x.clamp ? ceil_divide(band, 2) : 0);
  const int64_t fitting = (most_columns - more) / band - 1;
  const int64_t most_inputs =
      x.output_size <= most_columns ? larger<int64_t>(fitting, capacity / tiles.slice) : fitting;
  tiles.tiles = static_cast<int>(
      ceil_divide(x.input_size, smaller(larger<int64_t>(most_inputs, 1), x.input_size)));
  tiles.tile_inputs = static_cast<int>(ceil_divide(x.input_size, tiles.tiles));
  const int64_t columns =
      larger<int64_t>(smaller(x.output_size, (tiles.tile_inputs + 1) * band + more), 1);
  tiles.piece_columns = static_cast<int>(smaller(columns, most_columns));
  tiles.pieces = static_cast<int>(ceil_divide(columns, tiles.piece_columns));

  tiles.wide_elements = (tiles.piece_columns + tiles.cell) * tiles.slice;
  const int64_t vectors = ceil_divide(
      tiles.piece_columns * tiles.slice + (tiles.tiles * tiles.pieces > 1 ? vector - 1 : 0),
      vector);
  tiles.plane_threads = static_cast<int>(
      ceil_divide(ceil_divide(vectors, kElements / vector), tiles.slice) * tiles.slice);
  tiles.column_step = tiles.plane_threads / tiles.slice;
  tiles.shared_planes =
      static_cast<int>(smaller<int64_t>(kBackwardThreads / tiles.plane_threads, tiles.planes));

  tiles.plane_blocks = static_cast<int>(ceil_divide(tiles.planes, tiles.shared_planes));

  // Chunks should be long, since each also reads the band above it, but blocks should fill the
  // device to the end. A full round of blocks is assumed to be bound by memory and to take half as
  // long again as two thirds of a round or less, which are bound by latency.
  const int64_t rows = shape.y.input_size;
  const int64_t blocks_a_chunk =
      static_cast<int64_t>(tiles.tiles) * tiles.slices * tiles.plane_blocks;
  const DeviceLimits limits = device_limits();
  const int64_t blocks_a_round =
      limits.multiprocessors * (kBackwardThreads * backward_blocks<scalar_t>(limits.capability) /
                                (tiles.plane_threads * tiles.shared_planes));
  int64_t least_time = INT64_MAX;
  for (int64_t chunk_rows = tiles.pieces > 1 ? 1 : smaller(rows, kMostRows); chunk_rows > 0;
       --chunk_rows) {
    const int64_t chunks = ceil_divide(rows, chunk_rows);
    const int64_t blocks = blocks_a_chunk * chunks;
    const int64_t rest = blocks % blocks_a_round;
    const int64_t time = (chunk_rows + 1) * (3 * (blocks - rest) +
                                             (rest > 0 ? larger(3 * rest, 2 * blocks_a_round) : 0));
    if (time < least_time) {
      least_time = time;
      tiles.chunk_rows = static_cast<int>(chunk_rows);
      tiles.chunks = static_cast<int>(chunks);
    }
  }
  return tiles;
}

}  // namespace fcn_ext
