// The transpose of bilinear resampling on CPU, compiled once per instruction set
// (common/cpu_capability.h).
//
// The output rows of a band are summed with their two weights, in registers, each gradient read
// once; the sum is then narrowed to the input's columns (1 / stride of the work). Every element is
// summed in an order fixed by the shape alone, so neither threads nor tiles change a bit.
#include "bilinear/bilinear_rows_cpu.h"

namespace fcn_ext {
namespace {

// The output columns that input columns [begin, end) are read by.
struct Columns {
  int64_t begin, end;
};
Columns readers(const BilinearWork& work, int64_t begin, int64_t end) {
  return {work.x.first[begin], work.x.first[end + 1]};
}

// Cells that are narrowed side by side (narrow_cells).
constexpr int64_t kGroup = 16;

// Elements of the longest summed row: the columns that a tile of input columns is read by, in whole
// cells, in whole groups of cells, with room before them.
int64_t sum_size(const BilinearWork& work) {
  int64_t widest = 0;
  for (int64_t begin = 0; begin < work.shape.x.input_size; begin += work.tile_columns) {
    const int64_t end = begin + work.tile_columns < work.shape.x.input_size
                            ? begin + work.tile_columns
                            : work.shape.x.input_size;
    const Columns columns = readers(work, begin, end);
    widest = columns.end - columns.begin > widest ? columns.end - columns.begin : widest;
  }
  return padded(kAlign + wide_size(work, widest) + kGroup * work.x.stride);
}

int64_t backward_scratch(const BilinearBackward& args) {
  return (3 * sum_size(args.work) + padded(narrow_size(args.work))) * sizeof(double);
}

template <typename accumulate_t>
struct RowWeights {
  const accumulate_t* lower;
  const accumulate_t* upper;
  bool fresh;  // the upper sum starts from zero here
};

// Elements [begin, begin + vectors * kLanes) of sum_rows. `load` gives lanes v of row y. Rows with
// a zero upper weight are skipped there (0 * inf), unless `all_upper` says that there are none.
template <int vectors, bool all_upper, typename accumulate_t, typename Load>
inline void sum_lanes(const RowWeights<accumulate_t>& weights, int64_t rows,
                      accumulate_t* __restrict lower_sum, accumulate_t* __restrict upper_sum,
                      const Load& load) {
  using lanes_t = Lanes<accumulate_t>;
  constexpr int64_t kStep = kLanes<accumulate_t>;
  lanes_t lower[vectors], upper[vectors];
  for (int v = 0; v < vectors; ++v) {
    lower[v] = load_lanes(lower_sum + v * kStep);
    upper[v] = weights.fresh ? lanes_t{} : load_lanes(upper_sum + v * kStep);
  }
  for (int64_t y = 0; y < rows; ++y) {
    const accumulate_t a = weights.lower[y];
    const accumulate_t b = weights.upper[y];
    for (int v = 0; v < vectors; ++v) {
      const lanes_t value = load(y, v);
      lower[v] += a * value;
      if (all_upper || b != 0) {
        upper[v] += b * value;
      }
    }
  }
  for (int v = 0; v < vectors; ++v) {
    store_lanes<false>(lower_sum + v * kStep, lower[v]);
    store_lanes<false>(upper_sum + v * kStep, upper[v]);
  }
}

// lower_sum += sum of lower weight y * row y, upper_sum likewise, over `rows` rows of n elements,
// top to bottom. The sums have room for whole lanes, the rows do not.
template <bool all_upper, typename element_t, typename accumulate_t>
void sum_rows(const element_t* rows_begin, int64_t row_stride, int64_t rows,
              const RowWeights<accumulate_t>& weights, accumulate_t* lower_sum,
              accumulate_t* upper_sum, int64_t n) {
  constexpr int64_t kStep = kLanes<element_t>;
#if defined(__AVX512F__)
  constexpr int kVectors = 2;
#else
  constexpr int kVectors = 1;
#endif
  int64_t i = 0;
  const auto load_whole = [&](int64_t y, int v) {
    return load_lanes(rows_begin + y * row_stride + i + v * kStep);
  };
  for (; i + kVectors * kStep <= n; i += kVectors * kStep) {
    // Prefetchers follow one stream of a page, not the rows of a band side by side; so the next
    // band, which lies behind this one where rows do, is asked for in the order of its addresses.
    if (row_stride == n) {
      const element_t* ahead = rows_begin + rows * row_stride + i * rows;
      for (int64_t line = 0; line < rows * kVectors; ++line) {
        __builtin_prefetch(ahead + line * kStep, 0, 2);
      }
    }
    sum_lanes<kVectors, all_upper>(weights, rows, lower_sum + i, upper_sum + i, load_whole);
  }
  for (; i + kStep <= n; i += kStep) {
    sum_lanes<1, all_upper>(weights, rows, lower_sum + i, upper_sum + i, load_whole);
  }
  if (i < n) {
    sum_lanes<1, all_upper>(weights, rows, lower_sum + i, upper_sum + i, [&](int64_t y, int) {
      return load_first(rows_begin + y * row_stride + i, n - i);
    });
  }
}

constexpr int64_t kRowsAtOnce = 8;

// Adds the band of `node` (output rows between it and the next) to the sums of both.
template <typename element_t, typename accumulate_t>
void sum_band(const BilinearWork& work, const PlaneView<element_t>& grad_output,
              const Columns& columns, int64_t node, accumulate_t* row, accumulate_t* lower_sum,
              accumulate_t* upper_sum) {
  const int64_t begin = work.y.first[node + 1];
  const int64_t end = work.y.first[node + 2];
  const int64_t run = (columns.end - columns.begin) * work.inner;
  const auto weights = [&](int64_t y) {
    return RowWeights<accumulate_t>{static_cast<const accumulate_t*>(work.y.lower_weight) + y,
                                    static_cast<const accumulate_t*>(work.y.upper_weight) + y,
                                    y == begin};
  };
  if (begin == end) {
    for (int64_t i = 0; i < run; ++i) {
      upper_sum[i] = 0;
    }
  } else if (grad_output.dense(work.inner)) {
    const element_t* from = grad_output.data + columns.begin * grad_output.column;
    for (int64_t y = begin; y < end; y += kRowsAtOnce) {
      const int64_t rows = end - y < kRowsAtOnce ? end - y : kRowsAtOnce;
      const element_t* first = from + y * grad_output.row;
      bool all_upper = true;
      for (int64_t k = 0; k < rows; ++k) {
        all_upper = all_upper && weights(y).upper[k] != 0;
      }
      if (all_upper) {
        sum_rows<true>(first, grad_output.row, rows, weights(y), lower_sum, upper_sum, run);
      } else {
        sum_rows<false>(first, grad_output.row, rows, weights(y), lower_sum, upper_sum, run);
      }
    }
  } else {
    for (int64_t y = begin; y < end; ++y) {
      grad_output.copy(y, columns.begin, columns.end, work.inner, row);
      sum_rows<false>(row, 0, 1, weights(y), lower_sum, upper_sum, run);
    }
  }
}

// lower_sum[k] and upper_sum[k] = the weighted sums of cell k's columns, in groups of kGroup cells
// so that the compiler can put cells, not columns, side by side in a register.
template <int stride, typename accumulate_t>
void sum_cells(const accumulate_t* __restrict wide, const accumulate_t* __restrict lower,
               const accumulate_t* __restrict upper, accumulate_t* __restrict lower_sum,
               accumulate_t* __restrict upper_sum) {
  constexpr int kPart = stride < 8 ? stride : 8;  // columns a cell is first folded to
  accumulate_t lower_part[kGroup * kPart], upper_part[kGroup * kPart];
  for (int64_t k = 0; k < kGroup; ++k) {
    for (int p = 0; p < kPart; ++p) {
      accumulate_t a = 0, b = 0;
      for (int q = p; q < stride; q += kPart) {
        a += lower[q] * wide[k * stride + q];
        b += upper[q] * wide[k * stride + q];
      }
      lower_part[k * kPart + p] = a;
      upper_part[k * kPart + p] = b;
    }
  }
  for (int64_t k = 0; k < kGroup; ++k) {
    accumulate_t a = 0, b = 0;
    for (int p = 0; p < kPart; ++p) {
      a += lower_part[k * kPart + p];
      b += upper_part[k * kPart + p];
    }
    lower_sum[k] = a;
    upper_sum[k] = b;
  }
}

// Adds the tile's columns to the input columns they read, with the weights they read them with.
// `grad` holds input columns from begin - 1 on: those beyond either end of the tile are summed too,
// for nobody.
template <int stride, typename accumulate_t>
void narrow_cells(const BilinearWork& work, const Columns& columns, int64_t begin, int64_t end,
                  const accumulate_t* wide, accumulate_t* grad) {
  const BilinearAxisTable& x = work.x;
  accumulate_t lower[stride], upper[stride];
  for (int p = 0; p < stride; ++p) {
    lower[p] = static_cast<const accumulate_t*>(x.phase_lower_weight)[p];
    upper[p] = static_cast<const accumulate_t*>(x.phase_upper_weight)[p];
  }
  const int64_t first_cell = (columns.begin + x.lead) / stride;
  const int64_t end_cell = (columns.end - 1 + x.lead) / stride + 1;
  // A clamped border hands its half cells to the node at the border.
  const int64_t last_node = work.shape.x.input_size - 1;
  for (int64_t group = first_cell; group < end_cell; group += kGroup) {
    accumulate_t lower_sum[kGroup], upper_sum[kGroup];
    sum_cells<stride>(wide + (group - first_cell) * stride, lower, upper, lower_sum, upper_sum);
    const int64_t group_end = group + kGroup < end_cell ? group + kGroup : end_cell;
    // Cells beyond the last are zero, and `grad` has room for them.
    if (!work.shape.x.clamp || (group > begin && group + kGroup <= end)) {
      accumulate_t* to = grad + (group - begin);  // the node below the group's first cell
      for (int64_t k = 0; k < kGroup; ++k) {
        to[k] += lower_sum[k];
      }
      for (int64_t k = 0; k < kGroup; ++k) {
        to[k + 1] += upper_sum[k];
      }
      continue;
    }
    for (int64_t cell = group; cell < group_end; ++cell) {
      int64_t below = cell > 0 ? cell - 1 : 0;
      int64_t above = cell < last_node ? cell : last_node;
      below = below < begin - 1 ? begin - 1 : below > end ? end : below;
      above = above < begin - 1 ? begin - 1 : above > end ? end : above;
      grad[below - begin + 1] += lower_sum[cell - group];
      grad[above - begin + 1] += upper_sum[cell - group];
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

template <typename accumulate_t>
void narrow(const BilinearWork& work, const Columns& columns, int64_t begin, int64_t end,
            int64_t stride, const accumulate_t* wide, accumulate_t* grad) {
  switch (stride) {
    case 2:
      return narrow_cells<2>(work, columns, begin, end, wide, grad);
    case 4:
      return narrow_cells<4>(work, columns, begin, end, wide, grad);
    case 8:
      return narrow_cells<8>(work, columns, begin, end, wide, grad);
    case 16:
      return narrow_cells<16>(work, columns, begin, end, wide, grad);
    case 32:
      return narrow_cells<32>(work, columns, begin, end, wide, grad);
    default:
      return narrow_columns(work, columns, begin, end, wide, grad);
  }
}

template <typename element_t>
void backward(const BilinearBackward& args, int64_t begin, int64_t end, void* scratch_) {
  using accumulate_t = AccumulateOf<element_t>;
  const BilinearWork& work = args.work;
  const int64_t rows = work.shape.y.input_size;
  const int64_t input_columns = work.shape.x.input_size;
  const int64_t size = sum_size(work);
  char* scratch = static_cast<char*>(scratch_);
  accumulate_t* sum = take<accumulate_t>(scratch, size);
  accumulate_t* next_sum = take<accumulate_t>(scratch, size);
  accumulate_t* row = take<accumulate_t>(scratch, size);
  accumulate_t* grad = take<accumulate_t>(scratch, narrow_size(work));
  const bool cells = work.inner == 1 && work.x.stride > 0;

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
    // Sums start on a cache line; cells start before it, where zeros are kept.
    const bool read = columns.end > columns.begin;
    const int64_t shift = cells && read ? (columns.begin + work.x.lead) % work.x.stride : 0;
    for (int64_t i = 0; i < size; ++i) {
      sum[i] = 0;
      next_sum[i] = 0;
    }
    sum_band(work, grad_output, columns, first_row - 1, row, next_sum + kAlign, sum + kAlign);
    for (int64_t input_row = first_row; input_row < end_row; ++input_row) {
      sum_band(work, grad_output, columns, input_row, row, sum + kAlign, next_sum + kAlign);
      for (int64_t i = 0; i < (width + 2) * work.inner + kGroup; ++i) {
        grad[i] = 0;
      }
      if (read) {
        narrow(work, columns, x_begin, x_end, cells ? work.x.stride : 0, sum + kAlign - shift,
               grad);
      }
      auto* out = static_cast<element_t*>(args.grad_input) +
                  ((plane * rows + input_row) * input_columns + x_begin) * work.inner;
      for (int64_t i = 0; i < width * work.inner; ++i) {
        store(out[i], grad[work.inner + i]);
      }
      accumulate_t* swapped = sum;
      sum = next_sum;
      next_sum = swapped;
    }
  }
}

}  // namespace

extern const BilinearBackwardKernels FCN_EXT_CAPABILITY_NAME(bilinear_backward_kernels);
const BilinearBackwardKernels FCN_EXT_CAPABILITY_NAME(bilinear_backward_kernels) = {
    backward_scratch,
    {backward<float>, backward<double>, backward<HalfBits>, backward<BFloat16Bits>}};

}  // namespace fcn_ext
