// Forward of the resampling engine on CUDA: output = resampled input (+ a window of skip).
//
// A thread owns 16 bytes of neighboring outputs, aligned in memory, and walks down a chunk of rows.
// It widens every input row that it meets to its own columns once (1 / stride of the work). Every
// output row is then a weighted sum of two widened rows in registers and one streaming 16-byte
// store. Rows that start at different alignments go to different blocks ("alignments"), so that a
// thread's columns never move; partial vectors at the ends of a row are stored by element. Column
// weights are in registers, row weights in shared memory, input rows in the L1 cache. A row costs a
// warp 31 instructions for 512 bytes of float, while an H100 at full bandwidth has time for 150:
// the kernel is a stream of stores at any ratio and needs no variant for whole strides.
#pragma once

#include "bilinear/cuda/taps.cuh"
#include "common/cuda/launch.cuh"

namespace fcn_ext {

constexpr int kForwardThreads = 128;
// Outputs that a thread stores at once.
template <typename scalar_t>
constexpr int kForwardCount = 16 / sizeof(scalar_t);
// Resident blocks per multiprocessor: what registers allow.
template <typename scalar_t>
constexpr int kForwardBlocks = sizeof(scalar_t) == 2 ? 4 : 7;

// How a launch is divided into blocks. Element counts are per row, `inner` channels included.
struct BilinearForwardTiles {
  int64_t planes, row_elements;
  int inner;
  int misalignment;  // of the first row, in elements past a 16-byte boundary
  int alignments;    // rows `alignments` apart are equally aligned; a power of two
  int tile_slots;    // vectors of a row that a block owns
  int tiles;
  int shared_planes;  // planes that share a block
  int chunk_rows;     // rows that a thread walks down
  int chunks;
  int plane_blocks;
  bool dense_skip;  // rows of skip are dense, like those of the output
};

template <typename scalar_t>
struct BilinearForwardArgs {
  BilinearShape shape;
  BilinearForwardTiles tiles;
  const scalar_t* input;
  PlaneStrides input_strides;
  const scalar_t* skip;
  PlaneStrides skip_strides;
  scalar_t* output;
};

// Elements [first + begin, first + end) of a row of skip, in their places in the vector at `first`.
template <typename scalar_t>
__device__ __forceinline__ vector_bits<scalar_t, kForwardCount<scalar_t>> load_skip(
    const BilinearForwardArgs<scalar_t>& args, const scalar_t* row, int64_t first, int begin,
    int end) {
  constexpr int kCount = kForwardCount<scalar_t>;
  const int inner = args.tiles.inner;
  const PlaneStrides& strides = args.skip_strides;
  if (args.tiles.dense_skip && end - begin == kCount && elements_past_alignment(row + first) == 0) {
    return load_bits_streamed<kCount>(row + first);
  }
  // Steps from channel to channel, and from the last one to the next column.
  const int64_t column = (first + begin) / inner;
  int channel = static_cast<int>(first + begin - column * inner);
  const scalar_t* from = row + column * strides.column + channel * strides.channel;
  Vector<scalar_t, kCount> skip{};
#pragma unroll
  for (int j = 0; j < kCount; ++j) {
    if (j >= begin && j < end) {
      skip.values[j] = load_vector<1>(from).values[0];
      from += inner > 1 ? strides.channel : strides.column;
      if (++channel == inner && inner > 1) {
        channel = 0;
        from += strides.column - inner * strides.channel;
      }
    }
  }
  vector_bits<scalar_t, kCount> bits;
  __builtin_memcpy(&bits, &skip, sizeof(skip));
  return bits;
}

template <typename scalar_t, bool with_skip>
__global__ void __launch_bounds__(kForwardThreads, kForwardBlocks<scalar_t>)
    bilinear_forward_kernel(const BilinearForwardArgs<scalar_t> args) {
  using accumulate_t = accumulate_of<scalar_t>;
  constexpr int kCount = kForwardCount<scalar_t>;
  const BilinearForwardTiles& tiles = args.tiles;
  const int64_t height = args.shape.y.output_size;

  // blockIdx.x = (chunk, alignment, tile)
  const int tile = static_cast<int>(blockIdx.x) % tiles.tiles;
  const int alignment = static_cast<int>(blockIdx.x) / tiles.tiles % tiles.alignments;
  const int chunk = static_cast<int>(blockIdx.x) / tiles.tiles / tiles.alignments;
  const int64_t y_begin = static_cast<int64_t>(chunk) * tiles.chunk_rows;
  const int rows = static_cast<int>(smaller<int64_t>(tiles.chunk_rows, height - y_begin));
  auto* row_taps = shared_memory<WeightedTap<accumulate_t>>();
  for (int i = static_cast<int>(threadIdx.x); i < rows; i += static_cast<int>(blockDim.x)) {
    row_taps[i] = weighted_tap<accumulate_t>(args.shape.y, y_begin + i);
  }
  __syncthreads();

  // This thread's columns: elements [first + begin, first + end) of every row.
  const int own_plane = static_cast<int>(threadIdx.x) / tiles.tile_slots;
  const int64_t slot =
      int64_t{tile} * tiles.tile_slots + static_cast<int>(threadIdx.x) % tiles.tile_slots;
  const int past = static_cast<int>((tiles.misalignment + alignment * tiles.row_elements) % kCount);
  const int64_t first = slot * kCount - past;
  const int begin = first < 0 ? static_cast<int>(-first) : 0;
  const int end = static_cast<int>(smaller<int64_t>(kCount, tiles.row_elements - first));
  if (own_plane >= tiles.shared_planes || end <= begin) {
    return;
  }
  int64_t offset[kCount];  // of the lower node into an input row
  accumulate_t lower_weights[kCount], upper_weights[kCount];
#pragma unroll
  for (int j = 0; j < kCount; ++j) {
    offset[j] = 0;
    lower_weights[j] = upper_weights[j] = 0;
    if (j >= begin && j < end) {
      const int64_t column = (first + j) / tiles.inner;
      const auto tap = weighted_tap<accumulate_t>(args.shape.x, column);
      offset[j] = tap.node * args.input_strides.column;
      if (tiles.inner > 1) {
        offset[j] += (first + j - column * tiles.inner) * args.input_strides.channel;
      }
      lower_weights[j] = tap.lower;
      upper_weights[j] = tap.upper;
    }
  }

  const int64_t plane_step = static_cast<int64_t>(gridDim.y) * tiles.shared_planes;
  for (int64_t plane = static_cast<int64_t>(blockIdx.y) * tiles.shared_planes + own_plane;
       plane < tiles.planes; plane += plane_step) {
    const scalar_t* input =
        args.input + plane_offset(plane, args.shape.channels, tiles.inner, args.input_strides);
    const auto widen = [&](int64_t node, accumulate_t(&wide)[kCount]) {
      const scalar_t* row = input + node * args.input_strides.row;
      // Issue all loads first, so that they are in flight together.
      Vector<scalar_t, kCount> below{}, above{};
#pragma unroll
      for (int j = 0; j < kCount; ++j) {
        if (lower_weights[j] != 0) {
          below.values[j] = load_vector<1>(row + offset[j]).values[0];
        }
        if (upper_weights[j] != 0) {
          above.values[j] = load_vector<1>(row + offset[j] + args.input_strides.column).values[0];
        }
      }
#pragma unroll
      for (int j = 0; j < kCount; ++j) {
        wide[j] = lower_weights[j] * static_cast<accumulate_t>(below.values[j]) +
                  upper_weights[j] * static_cast<accumulate_t>(above.values[j]);
      }
    };

    // The rows of this alignment, counted over the whole output.
    const int64_t first_row = plane * height + y_begin;
    const int skipped = static_cast<int>((alignment - first_row) & (tiles.alignments - 1));
    scalar_t* out = args.output + (first_row + skipped) * tiles.row_elements + first;
    // Rows of skip are loaded one row ahead of their use.
    const scalar_t* skip_row = args.skip;
    vector_bits<scalar_t, kCount> skip{}, next_skip{};
    if (with_skip && skipped < rows) {
      skip_row += plane_offset(plane, args.shape.channels, tiles.inner, args.skip_strides) +
                  (y_begin + skipped) * args.skip_strides.row;
      next_skip = load_skip(args, skip_row, first, begin, end);
    }
    accumulate_t lower[kCount], upper[kCount];
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
      lower[j] = upper[j] = 0;
    }
    int lower_node = -2, upper_node = -2;
    for (int i = skipped; i < rows;
         i += tiles.alignments, out += tiles.alignments * tiles.row_elements) {
      if (with_skip) {
        skip = next_skip;
        if (i + tiles.alignments < rows) {
          skip_row += tiles.alignments * args.skip_strides.row;
          next_skip = load_skip(args, skip_row, first, begin, end);
        }
      }
      const WeightedTap<accumulate_t> tap = row_taps[i];
      if (tap.lower != 0 && tap.node != lower_node) {
        if (tap.node == upper_node) {
#pragma unroll
          for (int j = 0; j < kCount; ++j) {
            lower[j] = upper[j];
          }
        } else {
          widen(tap.node, lower);
        }
        lower_node = tap.node;
      }
      if (tap.upper != 0 && tap.node + 1 != upper_node) {
        upper_node = tap.node + 1;
        widen(upper_node, upper);
      }
      accumulate_t values[kCount];
#pragma unroll
      for (int j = 0; j < kCount; ++j) {
        values[j] = tap.lower * lower[j];
        if (tap.upper != 0) {
          values[j] += tap.upper * upper[j];
        }
      }
      Vector<scalar_t, kCount> rounded;
#pragma unroll
      for (int j = 0; j < kCount; ++j) {
        if (with_skip) {
          values[j] += widened<scalar_t>(skip, j);
        }
        rounded.values[j] = static_cast<scalar_t>(values[j]);
      }
      if (end - begin == kCount) {
        store_vector_streamed(out, rounded);
      } else {
#pragma unroll
        for (int j = 0; j < kCount; ++j) {
          if (j >= begin && j < end) {
            store_vector_streamed(out + j, Vector<scalar_t, 1>{{rounded.values[j]}});
          }
        }
      }
    }
  }
}

// Enough blocks to fill the device several times over, with chunks as long as that allows.
template <typename scalar_t>
BilinearForwardTiles bilinear_forward_tiles(const BilinearShape& shape, bool channels_last,
                                            const scalar_t* output) {
  constexpr int64_t kCount = kForwardCount<scalar_t>;
  constexpr int64_t kFewestRows = 8, kMostRows = 256;
  BilinearForwardTiles tiles{};
  const int64_t height = shape.y.output_size;
  const int64_t multiprocessors = device_limits().multiprocessors;
  tiles.inner = channels_last ? static_cast<int>(shape.channels) : 1;
  tiles.planes = channels_last ? shape.batch : shape.batch * shape.channels;
  tiles.row_elements = shape.x.output_size * tiles.inner;
  tiles.misalignment = elements_past_alignment(output);
  tiles.alignments = 1;
  while (tiles.alignments * tiles.row_elements % kCount != 0) {
    tiles.alignments *= 2;
  }
  const int64_t head = tiles.alignments > 1 ? kCount - 1 : tiles.misalignment;
  const int64_t slots = ceil_divide(tiles.row_elements + head, kCount);
  const int64_t tile_count = ceil_divide(slots, kForwardThreads);
  tiles.tiles = static_cast<int>(tile_count);
  tiles.tile_slots = static_cast<int>(ceil_divide(slots, tile_count));
  tiles.shared_planes =
      static_cast<int>(smaller<int64_t>(kForwardThreads / tiles.tile_slots, tiles.planes));

  const int64_t plane_blocks = ceil_divide(tiles.planes, tiles.shared_planes);
  const int64_t blocks_a_chunk = tiles.tiles * tiles.alignments * plane_blocks;
  const int64_t wanted = ceil_divide(16 * multiprocessors, blocks_a_chunk);
  const int64_t chunk_rows =
      smaller(larger(ceil_divide(height, wanted), kFewestRows * tiles.alignments), kMostRows);
  tiles.chunk_rows = static_cast<int>(smaller(chunk_rows, height));
  tiles.chunks = static_cast<int>(ceil_divide(height, tiles.chunk_rows));
  // If there are plenty of blocks, a block serves several planes with the same weights.
  const int64_t planes_a_block =
      larger<int64_t>(1, blocks_a_chunk * tiles.chunks / (64 * multiprocessors));
  tiles.plane_blocks =
      static_cast<int>(smaller(ceil_divide(plane_blocks, planes_a_block), kMostBlocksYZ));
  return tiles;
}

// output: dense, contiguous or channels_last. skip: first element of the window, or null.
template <typename scalar_t>
void launch_bilinear_forward(const BilinearShape& shape, const scalar_t* input,
                             const PlaneStrides& input_strides, const scalar_t* skip,
                             const PlaneStrides& skip_strides, scalar_t* output, bool channels_last,
                             cudaStream_t stream) {
  if (shape.batch * shape.channels * shape.y.output_size * shape.x.output_size == 0) {
    return;
  }
  BilinearForwardTiles tiles = bilinear_forward_tiles(shape, channels_last, output);
  tiles.dense_skip = has_dense_rows(skip_strides, tiles.inner);
  const BilinearForwardArgs<scalar_t> args{shape, tiles,        input, input_strides,
                                           skip,  skip_strides, output};
  const dim3 grid(static_cast<unsigned>(tiles.tiles * tiles.alignments * tiles.chunks),
                  static_cast<unsigned>(tiles.plane_blocks));
  const dim3 block(
      static_cast<unsigned>(ceil_divide(tiles.tile_slots * tiles.shared_planes, kWarp)) * kWarp);
  const size_t shared_bytes = tiles.chunk_rows * sizeof(WeightedTap<accumulate_of<scalar_t>>);
  const auto kernel = skip != nullptr ? bilinear_forward_kernel<scalar_t, true>
                                      : bilinear_forward_kernel<scalar_t, false>;
  launch(kernel, grid, block, shared_bytes, stream, args);
}

}  // namespace fcn_ext
