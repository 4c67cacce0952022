// Bilinear resampling on CPU, compiled once per instruction set (common/cpu/capability.h).
//
// Every input row is widened to the output's columns once (widen.h, 1 / stride of the work). Every
// output row is then a weighted sum of two widened rows: a stream of stores.
#include "bilinear/cpu/row_writer.h"
#include "bilinear/cpu/widen.h"

namespace fcn_ext {
namespace {

int64_t forward_scratch(const BilinearForward& args) {
  const BilinearWork& work = args.work;
  return (3 * padded(kAlign + wide_size(work, work.tile_columns)) + padded(narrow_size(work))) *
         sizeof(double);
}

template <typename element_t>
void forward(const BilinearForward& args, int64_t begin, int64_t end, void* memory) {
  using accumulate_t = accumulate_of<element_t>;
  const BilinearWork& work = args.work;
  const int64_t rows = work.shape.y.output_size;
  const int64_t columns = work.shape.x.output_size;
  const int64_t bands = work.shape.y.input_size + 1;
  // Lines are read whole. What lies beside a row must not be a subnormal number, since adding one
  // may take a hundred cycles.
  __builtin_memset(memory, 0, forward_scratch(args));
  Scratch scratch{static_cast<char*>(memory)};
  const int64_t size = kAlign + wide_size(work, work.tile_columns);
  accumulate_t* lower = scratch.take<accumulate_t>(size) + kAlign;
  accumulate_t* upper = scratch.take<accumulate_t>(size) + kAlign;
  accumulate_t* skip_row = scratch.take<accumulate_t>(size);
  accumulate_t* staged = scratch.take<accumulate_t>(narrow_size(work));
  RowWriter<element_t> writer(args.stream);

  for (int64_t unit = begin; unit < end;) {
    const int64_t tile_index = unit / bands;  // plane, tile
    const int64_t first_band = unit % bands;
    const int64_t end_band = end - unit < bands - first_band ? first_band + end - unit : bands;
    unit += end_band - first_band;
    const int64_t plane = tile_index / work.tiles;
    const int64_t x_begin = tile_index % work.tiles * work.tile_columns;
    const int64_t x_end =
        x_begin + work.tile_columns < columns ? x_begin + work.tile_columns : columns;
    const int64_t run = (x_end - x_begin) * work.inner;
    const Tile tile(work, x_begin, x_end);
    const PlaneView<element_t> input(args.input, args.input_strides, work, plane);
    const PlaneView<element_t> skip(args.skip, args.skip_strides, work, plane);
    auto* out =
        static_cast<element_t*>(args.output) + (plane * rows * columns + x_begin) * work.inner;
    int64_t held_node = first_band - 2;  // of the row in `upper`
    for (int64_t node = first_band - 1; node < end_band - 1; ++node) {
      const int64_t y_begin = work.y.first[node + 1];
      const int64_t y_end = work.y.first[node + 2];
      if (y_begin == y_end) {
        continue;
      }
      if (held_node == node) {
        accumulate_t* swapped = lower;
        lower = upper;
        upper = swapped;
      } else {
        widen(work, input, tile, node, staged, lower);
      }
      widen(work, input, tile, node + 1, staged, upper);
      held_node = node + 1;
      for (int64_t y = y_begin; y < y_end; ++y) {
        const Blend<accumulate_t> blend{lower + tile.shift, upper + tile.shift,
                                        static_cast<const accumulate_t*>(work.y.lower_weight)[y],
                                        static_cast<const accumulate_t*>(work.y.upper_weight)[y]};
        element_t* out_row = out + y * columns * work.inner;
        if (args.skip == nullptr) {
          writer.write(blend, static_cast<const element_t*>(nullptr), out_row, run);
        } else if (skip.dense(work.inner)) {
          writer.write(blend, skip.data + y * skip.row + x_begin * skip.column, out_row, run);
        } else {
          skip.copy(y, x_begin, x_end, work.inner, skip_row);
          writer.write(blend, skip_row, out_row, run);
        }
      }
    }
  }
  writer.finish();
  stream_fence();
}

}  // namespace

extern const BilinearForwardKernels FCN_EXT_CAPABILITY_NAME(bilinear_forward_kernels);
const BilinearForwardKernels FCN_EXT_CAPABILITY_NAME(bilinear_forward_kernels) = {
    forward_scratch, {forward<float>, forward<double>, forward<HalfBits>, forward<BFloat16Bits>}};

}  // namespace fcn_ext
