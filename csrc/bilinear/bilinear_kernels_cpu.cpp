// The resampling engine on CPU, compiled once per instruction set (common/cpu_capability.h).
//
// Forward, for every input row: widen it to the output's columns once (1 / stride of the work),
// then every output row is a weighted sum of two widened rows: a stream of stores.
// Backward is its transpose: sum the rows of a band with their two weights in registers, reading
// each gradient once, then narrow the sum to the input's columns. Every element is summed in an
// order fixed by the shape alone, so neither threads nor tiles change a bit.
#include "bilinear/bilinear_kernels_cpu.h"

#include "common/element_cpu.h"

namespace fcn_ext {
namespace {

// ---------------------------------------------------------------- scratch memory

constexpr int64_t kAlign = 64;  // elements, so that every piece starts on a cache line

int64_t padded(int64_t count) { return (count + kAlign - 1) / kAlign * kAlign; }

template <typename accumulate_t>
accumulate_t* take(char*& scratch, int64_t count) {
  auto* taken = reinterpret_cast<accumulate_t*>(scratch);
  scratch += padded(count) * sizeof(accumulate_t);
  return taken;
}

// A tile of output columns, with a whole cell of slack at either end.
int64_t wide_size(const BilinearWork& work, int64_t columns) {
  return (columns + 2 * work.x.stride) * work.inner;
}

// The input nodes of a tile, with one beyond either border.
int64_t narrow_size(const BilinearWork& work) { return (work.shape.x.input_size + 2) * work.inner; }

// The output columns that input columns [begin, end) are read by.
struct Columns {
  int64_t begin, end;
};
Columns readers(const BilinearWork& work, int64_t begin, int64_t end) {
  return {work.x.first[begin], work.x.first[end + 1]};
}

int64_t forward_scratch(const BilinearForward& args) {
  const BilinearWork& work = args.work;
  return (3 * padded(wide_size(work, work.tile_columns)) + padded(narrow_size(work))) *
         sizeof(double);
}

int64_t backward_scratch(const BilinearBackward& args) {
  const BilinearWork& work = args.work;
  int64_t widest = 0;
  for (int64_t begin = 0; begin < work.shape.x.input_size; begin += work.tile_columns) {
    const int64_t end = begin + work.tile_columns < work.shape.x.input_size
                            ? begin + work.tile_columns
                            : work.shape.x.input_size;
    const Columns columns = readers(work, begin, end);
    widest = columns.end - columns.begin > widest ? columns.end - columns.begin : widest;
  }
  return (3 * padded(wide_size(work, widest)) + padded(narrow_size(work))) * sizeof(double);
}

// ---------------------------------------------------------------- rows in any layout

// Where a plane starts, and the strides inside it.
template <typename element_t>
struct PlaneView {
  const element_t* data;
  int64_t row, column, channel;

  PlaneView(const void* base, const PlaneStrides& strides, const BilinearWork& work, int64_t plane)
      : row(strides.row), column(strides.column), channel(strides.channel) {
    const int64_t image = work.inner == 1 ? plane / work.shape.channels : plane;
    const int64_t first_channel = work.inner == 1 ? plane % work.shape.channels : 0;
    data = static_cast<const element_t*>(base) + image * strides.batch +
           first_channel * strides.channel;
  }

  // Elements of a row lie side by side, as they do in the output.
  bool dense(int64_t inner) const { return column == inner && (inner == 1 || channel == 1); }

  template <typename accumulate_t>
  void copy(int64_t y, int64_t begin, int64_t end, int64_t inner, accumulate_t* out) const {
    const element_t* from = data + y * row;
    for (int64_t x = begin; x < end; ++x) {
      for (int64_t c = 0; c < inner; ++c) {
        *out++ = load(from[x * column + c * channel]);
      }
    }
  }
};

// ---------------------------------------------------------------- forward

// One tile of widened rows: which columns, and how they are reached.
struct Tile {
  int64_t begin, end;         // output columns
  int64_t first_cell, cells;  // where the weights repeat
  int64_t first_node, nodes;  // staged input nodes, out-of-range ones included
  int64_t shift;              // of the first column into a row of whole cells

  Tile(const BilinearWork& work, int64_t begin_, int64_t end_) : begin(begin_), end(end_) {
    const BilinearAxisTable& x = work.x;
    if (work.inner == 1 && x.stride > 0) {
      first_cell = (begin + x.lead) / x.stride;
      cells = (end - 1 + x.lead) / x.stride + 1 - first_cell;
      first_node = first_cell - 1;
      nodes = cells + 1;
      shift = begin + x.lead - first_cell * x.stride;
    } else {
      first_cell = cells = shift = 0;
      first_node = x.node[begin];
      nodes = x.node[end - 1] + 2 - first_node;
    }
  }
};

// staged[k] = input node first_node + k of row y; beyond a border zero, or the border's own value.
template <typename element_t, typename accumulate_t>
void stage(const BilinearWork& work, const PlaneView<element_t>& input, const Tile& tile, int64_t y,
           accumulate_t* staged) {
  const int64_t size = work.shape.x.input_size;
  const int64_t inner = work.inner;
  const int64_t last = tile.first_node + tile.nodes;
  const int64_t begin = tile.first_node < 0 ? 0 : tile.first_node;
  const int64_t end = last > size ? size : last;
  input.copy(y, begin, end, inner, staged + (begin - tile.first_node) * inner);
  for (int64_t node = tile.first_node; node < last; ++node) {
    if (node >= 0 && node < size) {
      node = end - 1;
      continue;
    }
    for (int64_t c = 0; c < inner; ++c) {
      const int64_t border = ((node < 0 ? 0 : size - 1) - tile.first_node) * inner + c;
      staged[(node - tile.first_node) * inner + c] = work.shape.x.clamp ? staged[border] : 0;
    }
  }
}

template <int stride, typename accumulate_t>
void widen_cells(const BilinearAxisTable& x, int64_t cells, const accumulate_t* __restrict staged,
                 accumulate_t* __restrict wide) {
  accumulate_t lower[stride], upper[stride];
  for (int p = 0; p < stride; ++p) {
    lower[p] = static_cast<const accumulate_t*>(x.phase_lower_weight)[p];
    upper[p] = static_cast<const accumulate_t*>(x.phase_upper_weight)[p];
  }
  for (int64_t cell = 0; cell < cells; ++cell) {
    const accumulate_t a = staged[cell];
    const accumulate_t b = staged[cell + 1];
    for (int p = 0; p < stride; ++p) {
      wide[cell * stride + p] = lower[p] * a + upper[p] * b;
    }
  }
}

template <typename accumulate_t>
void widen_columns(const BilinearWork& work, const Tile& tile,
                   const accumulate_t* __restrict staged, accumulate_t* __restrict wide) {
  const auto* lower = static_cast<const accumulate_t*>(work.x.lower_weight);
  const auto* upper = static_cast<const accumulate_t*>(work.x.upper_weight);
  const int64_t inner = work.inner;
  for (int64_t column = tile.begin; column < tile.end; ++column) {
    const accumulate_t* a = staged + (work.x.node[column] - tile.first_node) * inner;
    const accumulate_t* b = a + inner;
    if (upper[column] == 0) {
      for (int64_t c = 0; c < inner; ++c) {
        wide[c] = lower[column] * a[c];
      }
    } else {
      for (int64_t c = 0; c < inner; ++c) {
        wide[c] = lower[column] * a[c] + upper[column] * b[c];
      }
    }
    wide += inner;
  }
}

// wide[x] = the input row y, widened to the tile's columns; zeros for a row beyond the border.
template <typename element_t, typename accumulate_t>
void widen(const BilinearWork& work, const PlaneView<element_t>& input, const Tile& tile, int64_t y,
           accumulate_t* staged, accumulate_t* wide) {
  if (y < 0 || y >= work.shape.y.input_size) {
    for (int64_t i = 0; i < wide_size(work, tile.end - tile.begin); ++i) {
      wide[i] = 0;
    }
    return;
  }
  stage(work, input, tile, y, staged);
  switch (tile.cells > 0 ? work.x.stride : 0) {
    case 2:
      return widen_cells<2>(work.x, tile.cells, staged, wide);
    case 4:
      return widen_cells<4>(work.x, tile.cells, staged, wide);
    case 8:
      return widen_cells<8>(work.x, tile.cells, staged, wide);
    case 16:
      return widen_cells<16>(work.x, tile.cells, staged, wide);
    case 32:
      return widen_cells<32>(work.x, tile.cells, staged, wide);
    default:
      return widen_columns(work, tile, staged, wide);
  }
}

template <typename accumulate_t>
struct Blend {
  const accumulate_t* lower;
  const accumulate_t* upper;
  accumulate_t lower_weight, upper_weight;

  // A zero weight reads nothing, so that an infinity beyond does not become NaN.
  bool single() const { return upper_weight == 0; }
};

constexpr int64_t kRun = 64;  // elements blended at a time

// out = blend (+ skip) of `count` elements from `begin` on.
template <typename element_t, typename accumulate_t, typename skip_t>
inline void blend_elements(const Blend<accumulate_t>& blend, const skip_t* __restrict skip,
                           int64_t begin, int64_t count, element_t* __restrict out) {
  const accumulate_t* __restrict a = blend.lower + begin;
  const accumulate_t* __restrict b = blend.upper + begin;
  alignas(64) accumulate_t values[kRun];
  if (blend.single()) {
    for (int64_t i = 0; i < count; ++i) {
      values[i] = blend.lower_weight * a[i];
    }
  } else {
    for (int64_t i = 0; i < count; ++i) {
      values[i] = blend.lower_weight * a[i] + blend.upper_weight * b[i];
    }
  }
  if (skip != nullptr) {
    for (int64_t i = 0; i < count; ++i) {
      values[i] += load(skip[begin + i]);
    }
  }
  store_run(out, values, count);
}

// One output row, cut where `out` crosses a cache line so that whole lines can be streamed.
template <typename element_t, typename accumulate_t, typename skip_t>
void blend_row(const Blend<accumulate_t>& blend, const skip_t* skip, bool stream,
               element_t* __restrict out, int64_t n) {
  const auto past_line = static_cast<int64_t>(reinterpret_cast<uintptr_t>(out) % 64);
  const int64_t to_line = past_line == 0 ? 0 : (64 - past_line) / sizeof(element_t);
  int64_t i = to_line < n ? to_line : n;
  blend_elements(blend, skip, 0, i, out);
  for (; i + kRun <= n; i += kRun) {
    if (stream) {
      alignas(64) element_t line[kRun];
      blend_elements(blend, skip, i, kRun, line);
      stream_lines(out + i, line, sizeof(line));
    } else {
      blend_elements(blend, skip, i, kRun, out + i);
    }
  }
  blend_elements(blend, skip, i, n - i, out + i);
}

template <typename element_t>
void forward(const BilinearForward& args, int64_t begin, int64_t end, void* scratch_) {
  using accumulate_t = typename Accumulate<element_t>::type;
  const BilinearWork& work = args.work;
  const int64_t rows = work.shape.y.output_size;
  const int64_t columns = work.shape.x.output_size;
  const int64_t bands = work.shape.y.input_size + 1;
  char* scratch = static_cast<char*>(scratch_);
  accumulate_t* lower = take<accumulate_t>(scratch, wide_size(work, work.tile_columns));
  accumulate_t* upper = take<accumulate_t>(scratch, wide_size(work, work.tile_columns));
  accumulate_t* skip_row = take<accumulate_t>(scratch, wide_size(work, work.tile_columns));
  accumulate_t* staged = take<accumulate_t>(scratch, narrow_size(work));

  // The input row held in `upper`, if it is of the tile at hand.
  int64_t held_tile = -1, held_node = 0;
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t node = unit % bands - 1;
    const int64_t tile_index = unit / bands;  // plane, tile
    const int64_t plane = tile_index / work.tiles;
    const int64_t y_begin = work.y.first[node + 1];
    const int64_t y_end = work.y.first[node + 2];
    if (y_begin == y_end) {
      continue;
    }
    const int64_t x_begin = tile_index % work.tiles * work.tile_columns;
    const int64_t x_end =
        x_begin + work.tile_columns < columns ? x_begin + work.tile_columns : columns;
    const Tile tile(work, x_begin, x_end);
    const PlaneView<element_t> input(args.input, args.input_strides, work, plane);
    if (held_tile == tile_index && held_node == node) {
      accumulate_t* swapped = lower;
      lower = upper;
      upper = swapped;
    } else {
      widen(work, input, tile, node, staged, lower);
    }
    widen(work, input, tile, node + 1, staged, upper);
    held_tile = tile_index;
    held_node = node + 1;

    const int64_t run = (x_end - x_begin) * work.inner;
    auto* out =
        static_cast<element_t*>(args.output) + (plane * rows * columns + x_begin) * work.inner;
    for (int64_t y = y_begin; y < y_end; ++y) {
      const Blend<accumulate_t> blend{lower + tile.shift, upper + tile.shift,
                                      static_cast<const accumulate_t*>(work.y.lower_weight)[y],
                                      static_cast<const accumulate_t*>(work.y.upper_weight)[y]};
      element_t* out_row = out + y * columns * work.inner;
      if (args.skip == nullptr) {
        blend_row(blend, static_cast<const element_t*>(nullptr), args.stream, out_row, run);
        continue;
      }
      const PlaneView<element_t> skip(args.skip, args.skip_strides, work, plane);
      if (skip.dense(work.inner)) {
        blend_row(blend, skip.data + y * skip.row + x_begin * skip.column, args.stream, out_row,
                  run);
      } else {
        skip.copy(y, x_begin, x_end, work.inner, skip_row);
        blend_row(blend, skip_row, args.stream, out_row, run);
      }
    }
  }
  stream_fence();
}

// ---------------------------------------------------------------- backward

template <typename accumulate_t>
struct Lanes {
  typedef accumulate_t type __attribute__((vector_size(64)));
  static constexpr int64_t count = 64 / sizeof(accumulate_t);
};

template <typename element_t, typename accumulate_t>
typename Lanes<accumulate_t>::type load_lanes(const element_t* from) {
  typename Lanes<accumulate_t>::type lanes;
  for (int64_t i = 0; i < Lanes<accumulate_t>::count; ++i) {
    lanes[i] = load(from[i]);
  }
  return lanes;
}
template <>
typename Lanes<float>::type load_lanes<float, float>(const float* from) {
  typename Lanes<float>::type lanes;
  __builtin_memcpy(&lanes, from, sizeof(lanes));
  return lanes;
}
template <>
typename Lanes<double>::type load_lanes<double, double>(const double* from) {
  typename Lanes<double>::type lanes;
  __builtin_memcpy(&lanes, from, sizeof(lanes));
  return lanes;
}
template <>
typename Lanes<float>::type load_lanes<BFloat16Bits, float>(const BFloat16Bits* from) {
  typedef uint16_t narrow_t __attribute__((vector_size(32)));
  typedef uint32_t wide_t __attribute__((vector_size(64)));
  narrow_t bits;
  __builtin_memcpy(&bits, from, sizeof(bits));
  return (typename Lanes<float>::type)(__builtin_convertvector(bits, wide_t) << 16);
}

// lower_sum += sum of lower_weight[y] * row y, upper_sum = sum of upper_weight[y] * row y (added to
// it unless `fresh`), over `rows` rows of n elements, top to bottom.
template <typename element_t, typename accumulate_t>
void sum_rows(const element_t* rows_begin, int64_t row_stride, int64_t rows,
              const accumulate_t* lower_weight, const accumulate_t* upper_weight, bool fresh,
              accumulate_t* __restrict lower_sum, accumulate_t* __restrict upper_sum, int64_t n) {
  using lanes_t = typename Lanes<accumulate_t>::type;
  constexpr int64_t kLanes = Lanes<accumulate_t>::count;
#if defined(__AVX512F__)
  constexpr int kVectors = 4;
#else
  constexpr int kVectors = 1;
#endif
  int64_t i = 0;
  for (; i + kVectors * kLanes <= n; i += kVectors * kLanes) {
    lanes_t lower[kVectors], upper[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      lower[v] = load_lanes<accumulate_t, accumulate_t>(lower_sum + i + v * kLanes);
      upper[v] =
          fresh ? lanes_t{} : load_lanes<accumulate_t, accumulate_t>(upper_sum + i + v * kLanes);
    }
    for (int64_t y = 0; y < rows; ++y) {
      const element_t* row = rows_begin + y * row_stride + i;
      const accumulate_t a = lower_weight[y];
      const accumulate_t b = upper_weight[y];
      for (int v = 0; v < kVectors; ++v) {
        const lanes_t value = load_lanes<element_t, accumulate_t>(row + v * kLanes);
        lower[v] += a * value;
        if (b != 0) {
          upper[v] += b * value;
        }
      }
    }
    for (int v = 0; v < kVectors; ++v) {
      __builtin_memcpy(lower_sum + i + v * kLanes, &lower[v], sizeof(lanes_t));
      __builtin_memcpy(upper_sum + i + v * kLanes, &upper[v], sizeof(lanes_t));
    }
  }
  for (; i < n; ++i) {
    accumulate_t lower = lower_sum[i];
    accumulate_t upper = fresh ? 0 : upper_sum[i];
    for (int64_t y = 0; y < rows; ++y) {
      const accumulate_t value = load(rows_begin[y * row_stride + i]);
      lower += lower_weight[y] * value;
      if (upper_weight[y] != 0) {
        upper += upper_weight[y] * value;
      }
    }
    lower_sum[i] = lower;
    upper_sum[i] = upper;
  }
}

constexpr int64_t kRowsAtOnce = 4;

// Adds the band of `node` (output rows between it and the next) to the sums of both.
template <typename element_t, typename accumulate_t>
void sum_band(const BilinearWork& work, const PlaneView<element_t>& grad_output,
              const Columns& columns, int64_t node, accumulate_t* row, accumulate_t* lower_sum,
              accumulate_t* upper_sum) {
  const int64_t begin = work.y.first[node + 1];
  const int64_t end = work.y.first[node + 2];
  const int64_t run = (columns.end - columns.begin) * work.inner;
  const auto* lower = static_cast<const accumulate_t*>(work.y.lower_weight);
  const auto* upper = static_cast<const accumulate_t*>(work.y.upper_weight);
  if (begin == end) {
    for (int64_t i = 0; i < run; ++i) {
      upper_sum[i] = 0;
    }
  } else if (grad_output.dense(work.inner)) {
    // Few rows at a time: the processor's prefetchers follow a handful of streams, not 32.
    const element_t* from = grad_output.data + columns.begin * grad_output.column;
    for (int64_t y = begin; y < end; y += kRowsAtOnce) {
      const int64_t rows = end - y < kRowsAtOnce ? end - y : kRowsAtOnce;
      sum_rows(from + y * grad_output.row, grad_output.row, rows, lower + y, upper + y, y == begin,
               lower_sum, upper_sum, run);
    }
  } else {
    for (int64_t y = begin; y < end; ++y) {
      grad_output.copy(y, columns.begin, columns.end, work.inner, row);
      sum_rows(row, 0, 1, lower + y, upper + y, y == begin, lower_sum, upper_sum, run);
    }
  }
}

// grad[node - first_node] = sum of the tile's columns with the weights they read `node` with.
// `grad` holds the nodes [begin - 1, end + 1): one beyond either end of the tile is summed too, for
// nobody.
template <int stride, typename accumulate_t>
void narrow_cells(const BilinearWork& work, const Columns& columns, int64_t begin, int64_t end,
                  accumulate_t* __restrict wide, accumulate_t* __restrict grad) {
  const BilinearAxisTable& x = work.x;
  accumulate_t lower[stride], upper[stride];
  for (int p = 0; p < stride; ++p) {
    lower[p] = static_cast<const accumulate_t*>(x.phase_lower_weight)[p];
    upper[p] = static_cast<const accumulate_t*>(x.phase_upper_weight)[p];
  }
  const int64_t first_cell = (columns.begin + x.lead) / stride;
  const int64_t last_cell = (columns.end - 1 + x.lead) / stride;
  const int64_t size = work.shape.x.input_size;
  for (int64_t cell = first_cell; cell <= last_cell; ++cell) {
    const accumulate_t* from = wide + (cell - first_cell) * stride;
    accumulate_t lower_sum = 0, upper_sum = 0;
    for (int p = 0; p < stride; ++p) {
      lower_sum += lower[p] * from[p];
      upper_sum += upper[p] * from[p];
    }
    int64_t lower_node = cell - 1, upper_node = cell;
    if (work.shape.x.clamp) {
      lower_node = lower_node < 0 ? 0 : lower_node;
      upper_node = upper_node >= size ? size - 1 : upper_node;
    }
    if (lower_node >= begin - 1 && lower_node <= end) {
      grad[lower_node - begin + 1] += lower_sum;
    }
    if (upper_node >= begin - 1 && upper_node <= end) {
      grad[upper_node - begin + 1] += upper_sum;
    }
  }
}

template <typename accumulate_t>
void narrow_columns(const BilinearWork& work, const Columns& columns, int64_t begin, int64_t end,
                    const accumulate_t* __restrict wide, accumulate_t* __restrict grad) {
  const auto* lower = static_cast<const accumulate_t*>(work.x.lower_weight);
  const auto* upper = static_cast<const accumulate_t*>(work.x.upper_weight);
  const int64_t inner = work.inner;
  for (int64_t column = columns.begin; column < columns.end; ++column, wide += inner) {
    const int64_t node = work.x.node[column];
    if (node >= begin - 1 && node <= end) {
      accumulate_t* to = grad + (node - begin + 1) * inner;
      for (int64_t c = 0; c < inner; ++c) {
        to[c] += lower[column] * wide[c];
      }
    }
    if (upper[column] != 0 && node + 1 >= begin - 1 && node + 1 <= end) {
      accumulate_t* to = grad + (node + 2 - begin) * inner;
      for (int64_t c = 0; c < inner; ++c) {
        to[c] += upper[column] * wide[c];
      }
    }
  }
}

template <typename element_t>
void backward(const BilinearBackward& args, int64_t begin, int64_t end, void* scratch_) {
  using accumulate_t = typename Accumulate<element_t>::type;
  const BilinearWork& work = args.work;
  const int64_t rows = work.shape.y.input_size;
  const int64_t input_columns = work.shape.x.input_size;
  const int64_t third =
      (backward_scratch(args) / static_cast<int64_t>(sizeof(double)) - padded(narrow_size(work))) /
      3;
  char* scratch = static_cast<char*>(scratch_);
  accumulate_t* sum = take<accumulate_t>(scratch, third);
  accumulate_t* next_sum = take<accumulate_t>(scratch, third);
  accumulate_t* row = take<accumulate_t>(scratch, third);
  accumulate_t* grad = take<accumulate_t>(scratch, narrow_size(work));
  const bool cells = work.inner == 1 && work.x.stride > 0;

  int64_t held_tile = -1, held_row = 0;
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t input_row = unit % rows;
    const int64_t tile_index = unit / rows;  // plane, tile
    const int64_t plane = tile_index / work.tiles;
    const int64_t x_begin = tile_index % work.tiles * work.tile_columns;
    const int64_t x_end =
        x_begin + work.tile_columns < input_columns ? x_begin + work.tile_columns : input_columns;
    const Columns columns = readers(work, x_begin, x_end);
    const PlaneView<element_t> grad_output(args.grad_output, args.grad_output_strides, work, plane);
    const int64_t run = (columns.end - columns.begin) * work.inner;
    // Whole cells: what lies outside the columns stays zero.
    const int64_t shift = cells && run > 0 ? (columns.begin + work.x.lead) % work.x.stride : 0;
    if (held_tile != tile_index || held_row != input_row) {
      for (int64_t i = 0; i < third; ++i) {
        sum[i] = 0;
        next_sum[i] = 0;
      }
      sum_band(work, grad_output, columns, input_row - 1, row, next_sum + shift, sum + shift);
    }
    sum_band(work, grad_output, columns, input_row, row, sum + shift, next_sum + shift);

    const int64_t width = x_end - x_begin;
    for (int64_t i = 0; i < (width + 2) * work.inner; ++i) {
      grad[i] = 0;
    }
    if (run > 0) {
      switch (cells ? work.x.stride : 0) {
        case 2:
          narrow_cells<2>(work, columns, x_begin, x_end, sum, grad);
          break;
        case 4:
          narrow_cells<4>(work, columns, x_begin, x_end, sum, grad);
          break;
        case 8:
          narrow_cells<8>(work, columns, x_begin, x_end, sum, grad);
          break;
        case 16:
          narrow_cells<16>(work, columns, x_begin, x_end, sum, grad);
          break;
        case 32:
          narrow_cells<32>(work, columns, x_begin, x_end, sum, grad);
          break;
        default:
          narrow_columns(work, columns, x_begin, x_end, sum, grad);
      }
    }
    auto* out = static_cast<element_t*>(args.grad_input) +
                ((plane * rows + input_row) * input_columns + x_begin) * work.inner;
    store_run(out, grad + work.inner, width * work.inner);
    accumulate_t* swapped = sum;
    sum = next_sum;
    next_sum = swapped;
    held_tile = tile_index;
    held_row = input_row + 1;
  }
}

}  // namespace

extern const BilinearKernels FCN_EXT_CAPABILITY_NAME(bilinear_kernels);
const BilinearKernels FCN_EXT_CAPABILITY_NAME(bilinear_kernels) = {
    forward_scratch,
    backward_scratch,
    {forward<float>, forward<double>, forward<HalfBits>, forward<BFloat16Bits>},
    {backward<float>, backward<double>, backward<HalfBits>, backward<BFloat16Bits>}};

}  // namespace fcn_ext
