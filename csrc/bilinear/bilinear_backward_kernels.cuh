// Backward of the resampling engine on CUDA: grad_input = transpose of the forward, a gather.
//
// A block owns a range of input columns of a few planes and walks down a strip of input rows. Its
// threads hold the output columns that those read, eight elements each, and add every gradient to
// two sums in registers, with the weights of the input rows below and above it. When an input row
// is complete its sums pass through shared memory, where a thread adds up the columns of an input
// element; the other sum goes on as the next row's start. So every gradient is read once, but for
// the band above a strip and that left of a tile; sums run in an order fixed by the shape; there
// are no atomics and no memset. Per gradient: 1/4 (float) or 1/8 (half) of a 16-byte load, two
// multiply-adds, and 1 / stride of the second pass. Shared rows are padded by one word in 32, so
// that strides of a power of two do not meet in one bank. Rows that are not 16-byte aligned, and
// any other stride, are read element by element, neighbouring lanes side by side.
#pragma once

#include "bilinear/bilinear_taps.cuh"
#include "common/launch.cuh"

namespace fcn_ext {

constexpr int kBackwardElements = 8;  // of a row, a thread
constexpr int kRowTableSize = 128;

struct BilinearBackwardTiles {
  int64_t planes;
  int inner;  // channels side by side in a row, else 1
  int chunk;  // of them a block owns
  int chunks;
  int tile_inputs;  // input columns that a block owns
  int tiles;
  int piece_columns;  // output columns that are summed at once
  int pieces;         // more than one only where a single input column has more readers than that
  int cell;           // whole stride for which the second pass is unrolled, else 0
  int wide_elements;  // of the shared row of a group
  int group_threads;
  int groups;      // planes that share a block
  int strip_rows;  // input rows that a block walks down; 1 if pieces > 1
  int strips;
  int plane_blocks;
};

template <typename scalar_t>
struct BilinearBackwardArgs {
  BilinearShape shape;
  BilinearBackwardTiles tiles;
  const scalar_t* grad_output;
  PlaneStrides grad_output_strides;
  scalar_t* grad_input;
};

__host__ __device__ __forceinline__ int padded(int index) { return index + index / 32; }

// Where the pieces of a block's shared memory start, in bytes, and how long it is.
template <typename accumulate_t>
struct BackwardShared {
  int lower_weights, upper_weights, rows, wide, row_first, column_first, bytes;

  __host__ __device__ __forceinline__ explicit BackwardShared(const BilinearBackwardTiles& tiles) {
    const int columns =
        static_cast<int>(sizeof(accumulate_t)) * padded(tiles.piece_columns + tiles.cell);
    lower_weights = 0;
    upper_weights = lower_weights + columns;
    wide = upper_weights + columns;
    rows = wide +
           2 * static_cast<int>(sizeof(accumulate_t)) * tiles.groups * padded(tiles.wide_elements);
    row_first = rows + kRowTableSize * static_cast<int>(sizeof(WeightedTap<accumulate_t>));
    column_first = row_first + (tiles.strip_rows + 2) * 4;
    bytes = column_first + (tiles.tile_inputs + 2) * 4;
  }
};

// The sum of an input element whose 2 * stride readers start at `index`: upper neighbour of the
// first half, lower neighbour of the second.
template <int stride, typename accumulate_t>
__device__ __forceinline__ accumulate_t sum_two_cells(const accumulate_t* wide,
                                                      const accumulate_t* lower_weights,
                                                      const accumulate_t* upper_weights,
                                                      int index) {
  const int upper = padded(index), lower = padded(index + stride);
  accumulate_t sum = 0;
#pragma unroll
  for (int p = 0; p < stride; ++p) {
    sum += upper_weights[upper + p] * wide[upper + p];
  }
#pragma unroll
  for (int p = 0; p < stride; ++p) {
    sum += lower_weights[lower + p] * wide[lower + p];
  }
  return sum;
}

// `vector` elements are loaded at once: 16 bytes' worth, or 1 for any strides.
template <typename scalar_t, int vector>
__global__ void __launch_bounds__(kBilinearThreads)
    bilinear_backward_kernel(const BilinearBackwardArgs<scalar_t> args) {
  using accumulate_t = accumulate_of<scalar_t>;
  constexpr int kVectors = kBackwardElements / vector;
  // Rows whose loads are under way at once: 64 bytes a thread.
  constexpr int kRows = 8 / sizeof(scalar_t);
  const BilinearBackwardTiles& tiles = args.tiles;
  const BilinearAxis& y_axis = args.shape.y;
  const BilinearAxis& x_axis = args.shape.x;
  const int thread = static_cast<int>(threadIdx.x);
  const int threads = static_cast<int>(blockDim.x);

  // blockIdx.x = (strip, tile, chunk)
  const int chunk = static_cast<int>(blockIdx.x) % tiles.chunks;
  const int tile = static_cast<int>(blockIdx.x) / tiles.chunks % tiles.tiles;
  const int strip = static_cast<int>(blockIdx.x) / tiles.chunks / tiles.tiles;
  const int first_channel = chunk * tiles.chunk;
  const int channels = smaller(tiles.chunk, tiles.inner - first_channel);
  const int64_t first_input = static_cast<int64_t>(tile) * tiles.tile_inputs;
  const int inputs =
      static_cast<int>(smaller<int64_t>(tiles.tile_inputs, x_axis.input_size - first_input));
  const int64_t first_row = static_cast<int64_t>(strip) * tiles.strip_rows;
  const int rows =
      static_cast<int>(smaller<int64_t>(tiles.strip_rows, y_axis.input_size - first_row));

  auto* bytes = shared_memory<unsigned char>();
  const BackwardShared<accumulate_t> shared(tiles);
  auto* lower_weights = reinterpret_cast<accumulate_t*>(bytes + shared.lower_weights);
  auto* upper_weights = reinterpret_cast<accumulate_t*>(bytes + shared.upper_weights);
  auto* row_taps = reinterpret_cast<WeightedTap<accumulate_t>*>(bytes + shared.rows);
  auto* row_first = reinterpret_cast<int*>(bytes + shared.row_first);
  auto* column_first = reinterpret_cast<int*>(bytes + shared.column_first);

  // Bands: outputs [row_first[k], row_first[k + 1]) past `y_begin` lie between the input rows
  // first_row + k - 1 and first_row + k; columns likewise.
  const int64_t y_begin = first_output(y_axis, first_row - 1);
  const int64_t x_begin = first_output(x_axis, first_input - 1);
  for (int k = thread; k < rows + 2; k += threads) {
    row_first[k] = static_cast<int>(first_output(y_axis, first_row - 1 + k) - y_begin);
  }
  for (int k = thread; k < inputs + 2; k += threads) {
    column_first[k] = static_cast<int>(first_output(x_axis, first_input - 1 + k) - x_begin);
  }
  const int columns = static_cast<int>(first_output(x_axis, first_input + inputs) - x_begin);
  // Columns up to here belong to a cell that starts before x_begin.
  const int shift = tiles.cell == 0
                        ? 0
                        : static_cast<int>((x_begin - ceil_divide(-x_axis.start, x_axis.step)) &
                                           (tiles.cell - 1));

  const int group = thread / tiles.group_threads;
  const int lane = thread % tiles.group_threads;
  auto* group_wide = reinterpret_cast<accumulate_t*>(bytes + shared.wide) +
                     2 * smaller(group, tiles.groups - 1) * padded(tiles.wide_elements);
  int table_begin = 0, table_end = 0;  // rows in row_taps
  int parity = 0;
  bool first_pass = true;
  for (int64_t plane_block = blockIdx.y; plane_block * tiles.groups < tiles.planes;
       plane_block += gridDim.y) {
    const int64_t plane = plane_block * tiles.groups + group;
    const bool active = group < tiles.groups && plane < tiles.planes;
    accumulate_t total = 0;  // of this thread's only element, if pieces > 1

    for (int piece = 0; piece < tiles.pieces; ++piece) {
      const int piece_begin = piece * tiles.piece_columns;
      const int piece_columns = smaller(tiles.piece_columns, columns - piece_begin);
      if (first_pass || tiles.pieces > 1) {
        __syncthreads();
        for (int k = thread; k < piece_columns; k += threads) {
          const auto tap = weighted_tap<accumulate_t>(x_axis, x_begin + piece_begin + k);
          lower_weights[padded(k + shift)] = tap.lower;
          upper_weights[padded(k + shift)] = tap.upper;
        }
        first_pass = false;
        __syncthreads();
      }

      // This thread's elements of the piece: vector k starts at element (lane + k * group_threads)
      // * vector - past, and at offset[k] from the first in memory.
      const int count = active ? larger(0, piece_columns * channels) : 0;
      const scalar_t* grad =
          args.grad_output +
          (active ? plane_offset(plane, args.shape.channels, tiles.inner, args.grad_output_strides)
                  : 0) +
          first_channel * args.grad_output_strides.channel +
          (x_begin + piece_begin) * args.grad_output_strides.column +
          y_begin * args.grad_output_strides.row;
      const int past = vector == 1 ? 0 : elements_past_alignment(grad);
      int64_t offset[kVectors];
#pragma unroll
      for (int k = 0; k < kVectors; ++k) {
        const int element = (lane + k * tiles.group_threads) * vector - past;
        const int column = element / channels;
        offset[k] = vector > 1
                        ? element
                        : column * args.grad_output_strides.column +
                              (element - column * channels) * args.grad_output_strides.channel;
      }

      accumulate_t sum[kBackwardElements], next_sum[kBackwardElements];
#pragma unroll
      for (int e = 0; e < kBackwardElements; ++e) {
        sum[e] = next_sum[e] = 0;
      }
      // Band `band` ends input row `band - 1`; the first band only begins row 0.
      for (int band = 0; band <= rows; ++band) {
        int y = row_first[band];
        const int y_end = row_first[band + 1];
        while (y < y_end) {
          if (y < table_begin || y >= table_end) {
            __syncthreads();
            table_begin = y;
            table_end = smaller(y + kRowTableSize, row_first[rows + 1]);
            for (int k = thread; k < table_end - table_begin; k += threads) {
              row_taps[k] = weighted_tap<accumulate_t>(y_axis, y_begin + table_begin + k);
            }
            __syncthreads();
          }
          const int stop = smaller(y_end, table_end);
          for (; y < stop; y += kRows) {
            const int batch = smaller(kRows, stop - y);
            Vector<scalar_t, vector> loaded[kRows][kVectors];
#pragma unroll
            for (int r = 0; r < kRows; ++r) {
              const scalar_t* row = grad + (y + r) * args.grad_output_strides.row;
#pragma unroll
              for (int k = 0; k < kVectors; ++k) {
                const int element = (lane + k * tiles.group_threads) * vector - past;
                loaded[r][k] = {};
                if (r < batch && element >= 0 && element + vector <= count) {
                  loaded[r][k] = load_vector_streamed<vector>(row + offset[k]);
                } else if (vector > 1 && r < batch && element < count) {
#pragma unroll
                  for (int j = 0; j < vector; ++j) {
                    if (element + j >= 0 && element + j < count) {
                      loaded[r][k].values[j] = load_vector<1>(row + offset[k] + j).values[0];
                    }
                  }
                }
              }
            }
#pragma unroll
            for (int r = 0; r < kRows; ++r) {
              if (r < batch) {
                const WeightedTap<accumulate_t> tap = row_taps[y + r - table_begin];
#pragma unroll
                for (int e = 0; e < kBackwardElements; ++e) {
                  const auto value =
                      static_cast<accumulate_t>(loaded[r][e / vector].values[e % vector]);
                  if (band > 0) {
                    sum[e] += tap.lower * value;
                  }
                  if (tap.upper != 0) {
                    next_sum[e] += tap.upper * value;
                  }
                }
              }
            }
          }
        }

        if (band > 0) {
          // Input row first_row + band - 1 is complete. The row before last's readers of this
          // buffer are past the barrier below.
          accumulate_t* wide = group_wide + parity * padded(tiles.wide_elements);
          parity ^= 1;
#pragma unroll
          for (int e = 0; e < kBackwardElements; ++e) {
            const int element =
                (lane + e / vector * tiles.group_threads) * vector - past + e % vector;
            if (element >= 0 && element < count) {
              wide[padded(element + shift)] = sum[e];
            }
          }
          __syncthreads();
          scalar_t* out = args.grad_input +
                          ((plane * y_axis.input_size + first_row + band - 1) * x_axis.input_size +
                           first_input) *
                              tiles.inner +
                          first_channel;
          for (int e = active ? lane : inputs * channels; e < inputs * channels;
               e += tiles.group_threads) {
            const int input = channels == 1 ? e : e / channels;
            const int channel = e - input * channels;
            const int begin = column_first[input], middle = column_first[input + 1],
                      end = column_first[input + 2];
            accumulate_t result = 0;
            if (tiles.cell > 0 && middle - begin == tiles.cell && end - middle == tiles.cell) {
              if (tiles.cell == 2) {
                result = sum_two_cells<2>(wide, lower_weights, upper_weights, begin + shift);
              } else if (tiles.cell == 4) {
                result = sum_two_cells<4>(wide, lower_weights, upper_weights, begin + shift);
              } else {
                result = sum_two_cells<8>(wide, lower_weights, upper_weights, begin + shift);
              }
            } else {
              const int piece_end = piece_begin + piece_columns;
              for (int o = larger(begin, piece_begin); o < smaller(end, piece_end); ++o) {
                const int k = padded(o - piece_begin + shift);
                const accumulate_t weight = o < middle ? upper_weights[k] : lower_weights[k];
                if (weight != 0) {
                  result += weight * wide[padded((o - piece_begin + shift) * channels + channel)];
                }
              }
            }
            if (tiles.pieces > 1) {
              total += result;
              result = total;
            }
            if (piece == tiles.pieces - 1) {
              out[input * tiles.inner + channel] = static_cast<scalar_t>(result);
            }
          }
        }
#pragma unroll
        for (int e = 0; e < kBackwardElements; ++e) {
          sum[e] = next_sum[e];
          next_sum[e] = 0;
        }
      }
    }
  }
}

template <typename scalar_t>
BilinearBackwardTiles bilinear_backward_tiles(const BilinearShape& shape, bool channels_last,
                                              int vector) {
  constexpr int64_t kCapacity = kBilinearThreads * kBackwardElements;
  constexpr int64_t kContiguousChannels = 32;  // at most so many are not split
  constexpr int64_t kMostRows = 64;
  BilinearBackwardTiles tiles{};
  const BilinearAxis& x = shape.x;
  const int64_t multiprocessors = device_limits().multiprocessors;
  tiles.inner = channels_last ? static_cast<int>(shape.channels) : 1;
  tiles.planes = channels_last ? shape.batch : shape.batch * shape.channels;
  tiles.chunks = tiles.inner <= kContiguousChannels
                     ? 1
                     : static_cast<int>(ceil_divide(tiles.inner, 64 / sizeof(scalar_t)));
  tiles.chunk = static_cast<int>(ceil_divide(tiles.inner, tiles.chunks));
  const int64_t stride = whole_stride(x);
  const bool weights_of_zero = x.step > 0 && x.start % x.step == 0;
  tiles.cell = tiles.inner == 1 && !weights_of_zero && (stride == 2 || stride == 4 || stride == 8)
                   ? static_cast<int>(stride)
                   : 0;

  // Input columns whose readers fit in a block: of each band at most `band`, and half a band more
  // where borders are clamped.
  const int64_t band = x.step == 0 ? x.output_size : ceil_divide(x.denominator, x.step);
  const int64_t most_columns = (kCapacity - vector - tiles.cell) / tiles.chunk;
  const int64_t fitting = (most_columns - 2) / band - 1;
  const int64_t most_inputs =
      x.output_size <= most_columns ? larger<int64_t>(fitting, kCapacity / tiles.chunk) : fitting;
  tiles.tiles = static_cast<int>(
      ceil_divide(x.input_size, smaller(larger<int64_t>(most_inputs, 1), x.input_size)));
  tiles.tile_inputs = static_cast<int>(ceil_divide(x.input_size, tiles.tiles));
  const int64_t columns =
      larger<int64_t>(smaller(x.output_size, (tiles.tile_inputs + 1) * band + 2), 1);
  tiles.piece_columns = static_cast<int>(smaller(columns, most_columns));
  tiles.pieces = static_cast<int>(ceil_divide(columns, tiles.piece_columns));

  tiles.wide_elements = (tiles.piece_columns + tiles.cell) * tiles.chunk;
  const int64_t vectors = ceil_divide(tiles.piece_columns * tiles.chunk + vector - 1, vector);
  tiles.group_threads = static_cast<int>(ceil_divide(vectors, kBackwardElements / vector));
  tiles.groups =
      static_cast<int>(smaller<int64_t>(kBilinearThreads / tiles.group_threads, tiles.planes));

  const int64_t plane_blocks = ceil_divide(tiles.planes, tiles.groups);
  const int64_t blocks_a_strip = tiles.tiles * tiles.chunks * plane_blocks;
  // A strip reads the band above it too: strips are cut short only to fill the device.
  const int64_t wanted = ceil_divide(6 * multiprocessors, blocks_a_strip);
  const int64_t fewest = blocks_a_strip * 2 > multiprocessors ? 8 : 2;
  const int64_t strip_rows =
      smaller(larger(ceil_divide(shape.y.input_size, wanted), fewest), kMostRows);
  tiles.strip_rows =
      tiles.pieces > 1 ? 1 : static_cast<int>(smaller(strip_rows, shape.y.input_size));
  tiles.strips = static_cast<int>(ceil_divide(shape.y.input_size, tiles.strip_rows));
  const int64_t planes_a_block =
      larger<int64_t>(1, blocks_a_strip * tiles.strips / (64 * multiprocessors));
  tiles.plane_blocks =
      static_cast<int>(smaller(ceil_divide(plane_blocks, planes_a_block), kMostBlocksYZ));
  return tiles;
}

// grad_input: dense, contiguous or channels_last.
template <typename scalar_t>
void launch_bilinear_backward(const BilinearShape& shape, const scalar_t* grad_output,
                              const PlaneStrides& grad_output_strides, scalar_t* grad_input,
                              bool channels_last, cudaStream_t stream) {
  constexpr int kVector = 16 / sizeof(scalar_t);
  if (shape.batch * shape.channels * shape.y.input_size * shape.x.input_size == 0) {
    return;
  }
  const int inner = channels_last ? static_cast<int>(shape.channels) : 1;
  // All rows of a plane have to be aligned alike.
  bool vectors =
      has_dense_rows(grad_output_strides, inner) && grad_output_strides.row % kVector == 0;
  BilinearBackwardTiles tiles =
      bilinear_backward_tiles<scalar_t>(shape, channels_last, vectors ? kVector : 1);
  if (vectors && tiles.chunks > 1) {
    vectors = false;
    tiles = bilinear_backward_tiles<scalar_t>(shape, channels_last, 1);
  }
  const BilinearBackwardArgs<scalar_t> args{shape, tiles, grad_output, grad_output_strides,
                                            grad_input};
  const dim3 grid(static_cast<unsigned>(tiles.chunks * tiles.tiles * tiles.strips),
                  static_cast<unsigned>(tiles.plane_blocks));
  const dim3 block(static_cast<unsigned>(ceil_divide(tiles.group_threads * tiles.groups, kWarp)) *
                   kWarp);
  const BackwardShared<accumulate_of<scalar_t>> shared(tiles);
  launch(
      vectors ? bilinear_backward_kernel<scalar_t, kVector> : bilinear_backward_kernel<scalar_t, 1>,
      grid, block, static_cast<size_t>(shared.bytes), stream, args);
}

}  // namespace fcn_ext
