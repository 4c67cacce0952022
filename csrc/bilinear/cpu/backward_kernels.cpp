// The transpose of bilinear resampling on CPU, compiled once per instruction set
// (common/cpu/capability.h).
//
// The output rows of a band are added, with their two weights and in the order of their addresses,
// to sums that stay in the L1 cache; a finished sum is then narrowed to the input's columns
// (narrow.h, 1 / stride of the work). Every element is summed in an order fixed by the shape alone,
// so neither threads nor tiles change a bit.
#include "bilinear/cpu/narrow.h"
#include "bilinear/cpu/row_writer.h"

namespace fcn_ext {
namespace {

// Elements of the longest summed row: the columns that read a tile of input columns, rounded up to
// whole cells and whole registers of cells, with room before them.
int64_t sum_size(const BilinearWork& work) {
  int64_t widest = 0;
  for (int64_t begin = 0; begin < work.shape.x.input_size; begin += work.tile_columns) {
    const int64_t end = begin + work.tile_columns < work.shape.x.input_size
                            ? begin + work.tile_columns
                            : work.shape.x.input_size;
    const Columns columns = readers(work, begin, end);
    widest = columns.end - columns.begin > widest ? columns.end - columns.begin : widest;
  }
  return padded(kAlign + wide_size(work, widest) + kWidest * work.x.stride);
}

int64_t backward_scratch(const BilinearBackward& args) {
  return (3 * sum_size(args.work) + padded(narrow_size(args.work))) * sizeof(double);
}

// How far ahead of the rows being summed memory is prefetched: the processor's own prefetchers stop
// at the end of a page and restart too late in the next.
constexpr int64_t kAheadBytes = 12288;
// kAheadBytes while sums of many channels are narrowed, which takes longer.
constexpr int64_t kAheadOfChannels = 32768;
// Two sums of this size leave room in the L1 cache for the rows.
constexpr int64_t kNearBytes = 10240;

// lower_sum += lower * row and upper_sum += upper * row, for consecutive rows; with `fresh` the
// upper sum starts from zero.
template <typename accumulate_t>
struct RowSum {
  const accumulate_t* lower;
  const accumulate_t* upper;
  bool fresh;
  accumulate_t* lower_sum;
  accumulate_t* upper_sum;
};

// Elements [i, i + kLanes) of sum_rows; load(y) returns those of row y.
template <int rows, bool fresh, bool has_upper, typename accumulate_t, typename Load>
inline void sum_lanes(const RowSum<accumulate_t>& sum, int64_t i, const Load& load) {
  Lanes<accumulate_t> lower = load_lanes(sum.lower_sum + i), upper = {};
  if constexpr (!fresh && has_upper) {
    upper = load_lanes(sum.upper_sum + i);
  }
  for (int y = 0; y < rows; ++y) {
    const Lanes<accumulate_t> value = load(y);
    lower += sum.lower[y] * value;
    if constexpr (has_upper) {
      upper += sum.upper[y] * value;
    }
  }
  store_lanes<false>(sum.lower_sum + i, lower);
  if constexpr (fresh || has_upper) {
    store_lanes<false>(sum.upper_sum + i, upper);
  }
}

template <int rows, bool fresh, bool has_upper, typename element_t, typename accumulate_t>
void sum_rows(const RowSum<accumulate_t>& sum, const element_t* row, int64_t stride, int64_t n) {
  constexpr int64_t kStep = kLanes<element_t>;
  constexpr int64_t kLine = 64 / sizeof(element_t);
  // In the order of addresses if rows are adjacent; else the same columns of the next rows.
  const int64_t distance = kAheadBytes / sizeof(element_t);
  const bool in_order = stride == n;
  const bool soon = in_order && distance > rows * n;  // soon enough for the L1 cache
  const element_t* ahead = row + (soon ? distance : rows * stride);
  const int64_t per_column = in_order ? rows : 1;
  // always_inline: the compiler drops the call of a function that only prefetches.
  const auto fetch = [&](int64_t i, int64_t columns) __attribute__((always_inline)) {
    const int64_t per_row = in_order ? columns : stride;
    for (int64_t y = 0; y < rows; ++y) {
      const element_t* from = ahead + i * per_column + y * per_row;
      for (int64_t at = 0; at < columns; at += kLine) {
        soon ? __builtin_prefetch(from + at, 0, 3) : __builtin_prefetch(from + at, 0, 2);
      }
    }
  };
  const auto lanes_at = [&](int64_t i) {
    return [=](int y) { return load_lanes(row + y * stride + i); };
  };
  int64_t i = 0;
  for (; i + 2 * kStep <= n; i += 2 * kStep) {
    fetch(i, 2 * kStep);
    sum_lanes<rows, fresh, has_upper>(sum, i, lanes_at(i));
    sum_lanes<rows, fresh, has_upper>(sum, i + kStep, lanes_at(i + kStep));
  }
  for (; i < n; i += kStep) {
    const int64_t rest = n - i < kStep ? n - i : kStep;
    fetch(i, kStep);
    sum_lanes<rows, fresh, has_upper>(
        sum, i, [&](int y) { return load_first(row + y * stride + i, rest); });
  }
}

template <int rows, typename element_t, typename accumulate_t>
void sum_rows(const RowSum<accumulate_t>& sum, bool has_upper, const element_t* row, int64_t stride,
              int64_t n) {
  if (has_upper) {
    sum.fresh ? sum_rows<rows, true, true>(sum, row, stride, n)
              : sum_rows<rows, false, true>(sum, row, stride, n);
  } else {
    sum.fresh ? sum_rows<rows, true, false>(sum, row, stride, n)
              : sum_rows<rows, false, false>(sum, row, stride, n);
  }
}

// Sums have room for whole lanes, rows of n elements do not. A row with a zero upper weight is not
// added to the upper sum (0 * inf).
template <typename element_t, typename accumulate_t>
void sum_rows(RowSum<accumulate_t> sum, const element_t* row, int64_t stride, int64_t rows,
              int64_t n) {
  // Reading in the order of addresses is worth more than reading sums less often, as long as the L1
  // cache holds the sums. Narrow elements take more computation per byte.
  constexpr int64_t kFew = sizeof(element_t) == sizeof(accumulate_t) ? 1 : 2;
  const int64_t most = n * int64_t{sizeof(accumulate_t)} <= kNearBytes ? kFew : 8;
  for (int64_t y = 0; y < rows;) {
    int64_t weighted = 0;
    while (weighted < most && y + weighted < rows && sum.upper[weighted] != 0) {
      ++weighted;
    }
    const int64_t count = weighted >= 8 ? 8 : weighted >= 4 ? 4 : weighted >= 2 ? 2 : 1;
    switch (count) {
      case 8:
        sum_rows<8>(sum, true, row, stride, n);
        break;
      case 4:
        sum_rows<4>(sum, true, row, stride, n);
        break;
      case 2:
        sum_rows<2>(sum, true, row, stride, n);
        break;
      default:
        sum_rows<1>(sum, weighted > 0, row, stride, n);
    }
    y += count;
    row += count * stride;
    sum.lower += count;
    sum.upper += count;
    sum.fresh = false;
  }
}

// Adds the band of `node` (the output rows between it and the next node) to the sums of both.
template <typename element_t, typename accumulate_t>
void sum_band(const BilinearWork& work, const PlaneView<element_t>& grad_output,
              const Columns& columns, int64_t node, accumulate_t* row, accumulate_t* lower_sum,
              accumulate_t* upper_sum) {
  const int64_t begin = work.y.first[node + 1];
  const int64_t end = work.y.first[node + 2];
  const int64_t run = (columns.end - columns.begin) * work.inner;
  const auto sum = [&](int64_t y) {
    return RowSum<accumulate_t>{static_cast<const accumulate_t*>(work.y.lower_weight) + y,
                                static_cast<const accumulate_t*>(work.y.upper_weight) + y,
                                y == begin, lower_sum, upper_sum};
  };
  if (begin == end) {
    for (int64_t i = 0; i < run; ++i) {
      upper_sum[i] = 0;
    }
  } else if (grad_output.dense(work.inner)) {
    const element_t* first =
        grad_output.data + begin * grad_output.row + columns.begin * grad_output.column;
    sum_rows(sum(begin), first, grad_output.row, end - begin, run);
  } else {
    for (int64_t y = begin; y < end; ++y) {
      grad_output.copy(y, columns.begin, columns.end, work.inner, row);
      sum_rows(sum(y), row, 0, 1, run);
    }
  }
}

template <typename element_t>
void backward(const BilinearBackward& args, int64_t begin, int64_t end, void* memory) {
  using accumulate_t = accumulate_of<element_t>;
  const BilinearWork& work = args.work;
  const int64_t rows = work.shape.y.input_size;
  const int64_t input_columns = work.shape.x.input_size;
  const int64_t size = sum_size(work);
  Scratch scratch{static_cast<char*>(memory)};
  accumulate_t* sum = scratch.take<accumulate_t>(size);
  accumulate_t* next_sum = scratch.take<accumulate_t>(size);
  accumulate_t* row = scratch.take<accumulate_t>(size);
  // After another array: RowWriter reads, and drops, up to a line before a row.
  accumulate_t* grad = scratch.take<accumulate_t>(narrow_size(work));
  const bool cells = work.inner == 1 && work.x.stride > 0;
  const int64_t ahead = work.inner == 1 ? kAheadBytes : kAheadOfChannels;
  RowWriter<element_t> writer(args.stream);

  for (int64_t unit = begin; unit < end;) {
    const int64_t tile = unit / rows;  // plane, tile
    const int64_t first_row = unit % rows;
    const int64_t end_row = end - unit < rows - first_row ? first_row + end - unit : rows;
    unit += end_row - first_row;
    const int64_t plane = tile / work.tiles;
    const int64_t x_begin = tile % work.tiles * work.tile_columns;
    const int64_t x_end =
        x_begin + work.tile_columns < input_columns ? x_begin + work.tile_columns : input_columns;
    const int64_t width = x_end - x_begin;
    const Columns columns = readers(work, x_begin, x_end);
    const PlaneView<element_t> grad_output(args.grad_output, args.grad_output_strides, work, plane);
    // Sums start on a cache line; cells start before it, where there are zeros.
    const bool read = columns.end > columns.begin;
    const int64_t shift = cells && read ? (columns.begin + work.x.lead) % work.x.stride : 0;
    for (int64_t i = 0; i < size; ++i) {
      sum[i] = 0;
      next_sum[i] = 0;
    }
    sum_band(work, grad_output, columns, first_row - 1, row, next_sum + kAlign, sum + kAlign);
    for (int64_t input_row = first_row; input_row < end_row; ++input_row) {
      sum_band(work, grad_output, columns, input_row, row, sum + kAlign, next_sum + kAlign);
      for (int64_t i = 0; i < width * work.inner; ++i) {
        grad[i] = 0;
      }
      if (read) {
        const auto* next = grad_output.data + work.y.first[input_row + 2] * grad_output.row +
                           columns.begin * grad_output.column;
        narrow(work, columns, x_begin, x_end, cells ? work.x.stride : 0, sum + kAlign - shift,
               reinterpret_cast<const char*>(next) + ahead, grad);
      }
      auto* out = static_cast<element_t*>(args.grad_input) +
                  ((plane * rows + input_row) * input_columns + x_begin) * work.inner;
      const Blend<accumulate_t> all_of_it{grad, grad, 1, 0};
      writer.write(all_of_it, static_cast<const element_t*>(nullptr), out, width * work.inner);
      accumulate_t* swapped = sum;
      sum = next_sum;
      next_sum = swapped;
    }
  }
  writer.finish();
  stream_fence();
}

}  // namespace

extern const BilinearBackwardKernels FCN_EXT_CAPABILITY_NAME(bilinear_backward_kernels);
const BilinearBackwardKernels FCN_EXT_CAPABILITY_NAME(bilinear_backward_kernels) = {
    backward_scratch,
    {backward<float>, backward<double>, backward<HalfBits>, backward<BFloat16Bits>}};

}  // namespace fcn_ext
