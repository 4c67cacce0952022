// Backward of the resampling engine on CUDA: grad_input = transpose of the forward, a gather.
//
// A block owns a range of input columns of a few planes and walks down a chunk of input rows. Its
// threads hold the output columns that read these, eight elements each, and add every gradient to
// two sums in registers, weighted for the input rows above and below it. When an input row is
// complete, its sums go through shared memory (padded, so that strides do not meet in one bank),
// where a thread adds up the columns of an input element; the other sum becomes the start of the
// next row. So every gradient is read once, except for the band above a chunk and the one left of a
// tile, in 16-byte loads with 64 bytes per thread in flight. Sums run in an order fixed by the
// shape alone: no atomics, no memset. Rows that are not made up of whole vectors are read in pairs
// of halves; all others are read element by element, with neighboring lanes at neighboring
// elements.
#pragma once

#include "bilinear/cuda/backward_tiles.cuh"

namespace fcn_ext {

template <typename scalar_t>
struct BilinearBackwardArgs {
  BilinearShape shape;
  BilinearBackwardTiles tiles;
  BackwardShared shared;
  const scalar_t* grad_output;
  PlaneStrides grad_output_strides;
  scalar_t* grad_input;
};

// The sum of an input element whose 2 * stride readers start at `index`: it is the upper neighbor
// of the first half, the lower neighbor of the second.
template <int stride, typename accumulate_t>
__device__ __forceinline__ accumulate_t sum_two_cells(const accumulate_t* wide,
                                                      const accumulate_t* lower_weights,
                                                      const accumulate_t* upper_weights,
                                                      int index) {
  const int upper = padded(index), lower = padded(index + stride);
  accumulate_t sum = 0;
#pragma unroll 4
  for (int p = 0; p < stride; ++p) {
    sum += upper_weights[upper + p] * wide[upper + p];
  }
#pragma unroll 4
  for (int p = 0; p < stride; ++p) {
    sum += lower_weights[lower + p] * wide[lower + p];
  }
  return sum;
}

// The sum of input column `input` over those of its readers that are in the piece. first[0, 1, 2]:
// where its two bands start and end.
template <typename accumulate_t>
__device__ __forceinline__ accumulate_t sum_readers(const accumulate_t* wide,
                                                    const accumulate_t* lower_weights,
                                                    const accumulate_t* upper_weights,
                                                    const int* first, int piece_begin,
                                                    int piece_columns, int shift, int cell,
                                                    int slice, int channel) {
  const int begin = first[0] - piece_begin, middle = first[1] - piece_begin,
            end = first[2] - piece_begin;
  if (cell > 0 && middle - begin == cell && end - middle == cell) {
    const int index = begin + shift;
    return cell == 2   ? sum_two_cells<2>(wide, lower_weights, upper_weights, index)
           : cell == 4 ? sum_two_cells<4>(wide, lower_weights, upper_weights, index)
                       : sum_two_cells<8>(wide, lower_weights, upper_weights, index);
  }
  accumulate_t sum = 0;
#pragma unroll 1
  for (int o = larger(begin, 0); o < smaller(end, piece_columns); ++o) {
    const int k = padded(o + shift);
    const accumulate_t weight = o < middle ? upper_weights[k] : lower_weights[k];
    if (weight != 0) {
      sum += weight * wide[padded((o + shift) * slice + channel)];
    }
  }
  return sum;
}

// A load takes `vector` elements, if whole vectors make up every row of grad_output; else 1, with
// any strides.
template <typename scalar_t, int vector>
__global__ void __launch_bounds__(kBackwardThreads, kBackwardBlocks<scalar_t>)
    bilinear_backward_kernel(const BilinearBackwardArgs<scalar_t> args) {
  using accumulate_t = accumulate_of<scalar_t>;
  constexpr int kElements = kBackwardElements<scalar_t>;
  constexpr int kVectors = kElements / vector;
  // Rows whose loads are in flight at once.
  constexpr int kRows = sizeof(scalar_t) * vector == 16
                            ? 64 / (kElements * static_cast<int>(sizeof(scalar_t)))
                            : 16 / kElements;
  const BilinearBackwardTiles& tiles = args.tiles;
  const BilinearAxis& y_axis = args.shape.y;
  const BilinearAxis& x_axis = args.shape.x;
  const PlaneStrides& strides = args.grad_output_strides;

  // blockIdx.x = (chunk, tile, slice)
  const int slice = static_cast<int>(blockIdx.x) % tiles.slices;
  const int tile = static_cast<int>(blockIdx.x) / tiles.slices % tiles.tiles;
  const int chunk = static_cast<int>(blockIdx.x) / tiles.slices / tiles.tiles;
  const int first_channel = slice * tiles.slice;
  const int first_input = tile * tiles.tile_inputs;
  const int inputs =
      static_cast<int>(smaller<int64_t>(tiles.tile_inputs, x_axis.input_size - first_input));
  const int first_row = chunk * tiles.chunk_rows;
  const int rows =
      static_cast<int>(smaller<int64_t>(tiles.chunk_rows, y_axis.input_size - first_row));

  auto* bytes = shared_memory<unsigned char>();
  auto* lower_weights = reinterpret_cast<accumulate_t*>(bytes + args.shared.lower_weights);
  auto* upper_weights = reinterpret_cast<accumulate_t*>(bytes + args.shared.upper_weights);
  auto* row_taps = reinterpret_cast<WeightedTap<accumulate_t>*>(bytes + args.shared.row_taps);
  auto* row_first = reinterpret_cast<int*>(bytes + args.shared.row_first);
  auto* column_first = reinterpret_cast<int*>(bytes + args.shared.column_first);

  // Bands: the outputs [row_first[k], row_first[k + 1]), counted from y_begin, lie between input
  // rows first_row + k - 1 and first_row + k. Likewise for columns.
  const int y_begin = static_cast<int>(first_output(y_axis, first_row - 1));
  const int x_begin = static_cast<int>(first_output(x_axis, first_input - 1));
  const int columns = static_cast<int>(first_output(x_axis, first_input + inputs) - x_begin);
  for (int k = static_cast<int>(threadIdx.x); k < rows + 2; k += static_cast<int>(blockDim.x)) {
    row_first[k] = static_cast<int>(first_output(y_axis, first_row - 1 + k) - y_begin);
  }
  for (int k = static_cast<int>(threadIdx.x); k < inputs + 2; k += static_cast<int>(blockDim.x)) {
    column_first[k] = static_cast<int>(first_output(x_axis, first_input - 1 + k) - x_begin);
  }
  // Columns between x_begin and the start of its cell.
  const int shift =
      tiles.cell == 0
          ? 0
          : static_cast<int>((x_begin - first_output_of_line(x_axis, 0)) & (tiles.cell - 1));

  // A thread's elements of a shared row, which is (columns, slice): vector k starts at
  // lane * vector - past + k * vector_step. If vector == 1, they all belong to one channel.
  const int own_plane = static_cast<int>(threadIdx.x) / tiles.plane_threads;
  const int lane = static_cast<int>(threadIdx.x) % tiles.plane_threads;
  const int lane_column = lane / tiles.slice;
  const int channel = first_channel + lane % tiles.slice;
  const int vector_step = tiles.plane_threads * vector;
  // Two rows, used in turn.
  auto* plane_wide = reinterpret_cast<accumulate_t*>(bytes + args.shared.wide) +
                     2 * smaller(own_plane, tiles.shared_planes - 1) * padded(tiles.wide_elements);
  int table_begin = 0, table_end = 0;  // rows in row_taps
  for (int plane_block = static_cast<int>(blockIdx.y); plane_block < tiles.plane_blocks;
       plane_block += static_cast<int>(gridDim.y)) {
    const int64_t plane = static_cast<int64_t>(plane_block) * tiles.shared_planes + own_plane;
    const bool active = own_plane < tiles.shared_planes && plane < tiles.planes &&
                        (vector > 1 || channel < tiles.inner);

    for (int piece = 0; piece < tiles.pieces; ++piece) {
      const int piece_begin = piece * tiles.piece_columns;
      const int piece_columns = smaller(tiles.piece_columns, columns - piece_begin);
      // The previous pass has been read; another barrier comes before this one is read.
      __syncthreads();
      if (tiles.pieces > 1 || plane_block == static_cast<int>(blockIdx.y)) {
        for (int k = static_cast<int>(threadIdx.x); k < piece_columns;
             k += static_cast<int>(blockDim.x)) {
          const auto tap = weighted_tap<accumulate_t>(x_axis, x_begin + piece_begin + k);
          lower_weights[padded(k + shift)] = tap.lower;
          upper_weights[padded(k + shift)] = tap.upper;
        }
      }

      const int count = active ? larger(0, piece_columns * tiles.slice) : 0;
      const scalar_t* grad =
          args.grad_output + (x_begin + piece_begin) * strides.column + y_begin * strides.row;
      if (active) {
        grad += plane_offset(plane, args.shape.channels, tiles.inner, strides);
      }
      const int past = vector == 1 ? 0 : elements_past_alignment(grad) % vector;
      const int first = lane * vector - past;
      grad += vector > 1 ? first
                         : lane_column * strides.column +
                               (tiles.inner > 1 ? channel * strides.channel : 0);
      const int64_t grad_step = vector > 1 ? vector_step : tiles.column_step * strides.column;

      scalar_t* out =
          args.grad_input + channel +
          ((plane * y_axis.input_size + first_row) * x_axis.input_size + first_input) * tiles.inner;

      accumulate_t sum[kElements], next_sum[kElements];
#pragma unroll
      for (int e = 0; e < kElements; ++e) {
        sum[e] = next_sum[e] = 0;
      }
      // Band `band` completes input row `band - 1` of the chunk and begins row `band`.
      for (int band = 0; band <= rows; ++band) {
        const int y_end = row_first[band + 1];
        for (int y = row_first[band]; y < y_end;) {
          if (y < table_begin || y >= table_end) {
            __syncthreads();
            table_begin = y;
            table_end = smaller(y + kRowTableSize, row_first[rows + 1]);
            for (int k = static_cast<int>(threadIdx.x); k < table_end - table_begin;
                 k += static_cast<int>(blockDim.x)) {
              row_taps[k] = weighted_tap<accumulate_t>(y_axis, y_begin + table_begin + k);
            }
            __syncthreads();
          }
          const int batch = smaller(kRows, smaller(y_end, table_end) - y);
          vector_bits<scalar_t, vector> loaded[kRows][kVectors];
#pragma unroll
          for (int r = 0; r < kRows; ++r) {
#pragma unroll
            for (int k = 0; k < kVectors; ++k) {
              const int element = first + k * vector_step;
              loaded[r][k] = {};
              if (r < batch && element > -vector && element < count) {
                loaded[r][k] = load_bits_streamed<vector>(grad + k * grad_step);
              }
            }
            grad += r < batch ? strides.row : 0;
          }
#pragma unroll
          for (int r = 0; r < kRows; ++r) {
            if (r < batch) {
              const WeightedTap<accumulate_t> tap = row_taps[y + r - table_begin];
#pragma unroll
              for (int e = 0; e < kElements; ++e) {
                const accumulate_t value = widened<scalar_t>(loaded[r][e / vector], e % vector);
                sum[e] += tap.lower * value;
                if (tap.upper != 0) {
                  next_sum[e] += tap.upper * value;
                }
              }
            }
          }
          y += batch;
        }

        if (band > 0) {
          accumulate_t* wide = plane_wide + band % 2 * padded(tiles.wide_elements);
#pragma unroll
          for (int e = 0; e < kElements; ++e) {
            const int element = first + e / vector * vector_step + e % vector;
            if (element >= 0 && element < count) {
              wide[padded(element + shift)] = sum[e];
            }
          }
          // A thread that still reads the other buffer, of the previous row, passes the barrier
          // below before any thread writes there again.
          __syncthreads();
          if (active) {
#pragma unroll 1
            for (int input = lane_column; input < inputs; input += tiles.column_step) {
              accumulate_t result = sum_readers(
                  wide, lower_weights, upper_weights, column_first + input, piece_begin,
                  piece_columns, shift, tiles.cell, tiles.slice, channel - first_channel);
              if (tiles.pieces > 1) {  // a thread has one input column then
                auto* totals = reinterpret_cast<accumulate_t*>(bytes + args.shared.totals);
                result += piece > 0 ? totals[threadIdx.x] : 0;
                totals[threadIdx.x] = result;
              }
              if (piece == tiles.pieces - 1) {
                out[static_cast<int64_t>(input) * tiles.inner] = static_cast<scalar_t>(result);
              }
            }
          }
          out += x_axis.input_size * tiles.inner;
        }
#pragma unroll
        for (int e = 0; e < kElements; ++e) {
          sum[e] = next_sum[e];
          next_sum[e] = 0;
        }
      }
    }
  }
}

template <int vector, typename scalar_t>
void launch_bilinear_backward(BilinearBackwardArgs<scalar_t> args, bool channels_last,
                              cudaStream_t stream) {
  const BilinearBackwardTiles tiles =
      bilinear_backward_tiles<scalar_t>(args.shape, channels_last, vector);
  args.tiles = tiles;
  args.shared = backward_shared<accumulate_of<scalar_t>>(tiles);
  // If there are plenty of blocks, a block serves several planes with the same weights.
  const int64_t blocks_a_plane = static_cast<int64_t>(tiles.slices) * tiles.tiles * tiles.chunks;
  const int64_t planes_a_block = larger<int64_t>(
      1, blocks_a_plane * tiles.plane_blocks / (64 * device_limits().multiprocessors));
  const dim3 grid(blocks_along_x(blocks_a_plane),
                  static_cast<unsigned>(
                      smaller(ceil_divide(tiles.plane_blocks, planes_a_block), kMostBlocksYZ)));
  const dim3 block(
      static_cast<unsigned>(ceil_divide(tiles.plane_threads * tiles.shared_planes, kWarp)) * kWarp);
  launch(bilinear_backward_kernel<scalar_t, vector>, grid, block,
         static_cast<size_t>(args.shared.bytes), stream, args);
}

// grad_input: dense, contiguous or channels_last.
template <typename scalar_t>
void launch_bilinear_backward(const BilinearShape& shape, const scalar_t* grad_output,
                              const PlaneStrides& grad_output_strides, scalar_t* grad_input,
                              bool channels_last, cudaStream_t stream) {
  if (shape.batch * shape.channels * shape.y.input_size * shape.x.input_size == 0) {
    return;
  }
  BilinearBackwardArgs<scalar_t> args{shape, {}, {}, grad_output, grad_output_strides, grad_input};
  const int inner = channels_last ? static_cast<int>(shape.channels) : 1;
  const bool dense = has_dense_rows(grad_output_strides, inner) && inner <= kUnsplitChannels;
  // What the starts and lengths of all rows are multiples of, in elements.
  const int64_t common = elements_past_alignment(grad_output) | grad_output_strides.row |
                         shape.x.output_size * inner |
                         (shape.batch > 1 ? grad_output_strides.batch : 0) |
                         (inner == 1 && shape.channels > 1 ? grad_output_strides.channel : 0);
  constexpr int kVector = 16 / sizeof(scalar_t);
  constexpr int kHalfPair = sizeof(scalar_t) == 2 ? 2 : 1;
  if (dense && common % kVector == 0) {
    launch_bilinear_backward<kVector>(args, channels_last, stream);
  } else if (dense && common % kHalfPair == 0) {
    launch_bilinear_backward<kHalfPair>(args, channels_last, stream);
  } else {
    launch_bilinear_backward<1>(args, channels_last, stream);
  }
}

}  // namespace fcn_ext
