// Bilinear resampling on CPU, compiled once per instruction set (common/cpu_capability.h).
//
// Every input row is widened to the output's columns once (bilinear_widen_cpu.h, 1 / stride of the
// work); every output row is then a weighted sum of two widened rows: a stream of stores.
#include "bilinear/bilinear_widen_cpu.h"

namespace fcn_ext {
namespace {

int64_t forward_scratch(const BilinearForward& args) {
  const BilinearWork& work = args.work;
  return (3 * padded(kAlign + wide_size(work, work.tile_columns)) + padded(narrow_size(work))) *
         sizeof(double);
}

template <typename accumulate_t>
struct Blend {
  const accumulate_t* lower;
  const accumulate_t* upper;
  accumulate_t lower_weight, upper_weight;

  // A zero weight reads nothing, so that an infinity beyond does not become NaN.
  bool single() const { return upper_weight == 0; }
};

// Writes output rows in lines of kLanes elements aligned in memory, so that each leaves as one
// store. Rows that follow each other do not end on such lines; the line that two rows share is kept
// here until it is whole. (Storing it twice would wait for memory to be read in between.)
template <typename element_t>
class RowWriter {
 public:
  explicit RowWriter(bool stream) : stream_(stream) {}

  // out[0, n) = blend (+ skip). Widened rows have room to be read in whole lines at both ends.
  template <typename skip_t>
  void write(const Blend<AccumulateOf<element_t>>& blend, const skip_t* skip, element_t* out,
             int64_t n) {
    if (stream_ && out != next_) {
      finish();
      foreign_ = past_line(out);
    }
    if (blend.single()) {
      write_lines<true>(blend, skip, out, n);
    } else {
      write_lines<false>(blend, skip, out, n);
    }
    next_ = out + n;
  }

  // Writes what is left of the last line.
  void finish() {
    const int64_t fill = past_line(next_);
    if (stream_ && fill > foreign_) {
      store_some(next_ - fill, foreign_, fill, kept_);
    }
    foreign_ = 0;
  }

 private:
  static constexpr int64_t kLine = kLanes<element_t>;
  using lanes_t = Lanes<element_t>;

  static int64_t past_line(const element_t* at) {
    return static_cast<int64_t>(reinterpret_cast<uintptr_t>(at) / sizeof(element_t)) % kLine;
  }

  static void store_some(element_t* line, int64_t begin, int64_t end, const lanes_t& value) {
    element_t rounded[kLine];
    store_lanes<false>(rounded, value);
    __builtin_memcpy(line + begin, rounded + begin, (end - begin) * sizeof(element_t));
  }

  // Lanes of row[i, i + kLine), zero where that lies outside [0, n).
  template <typename skip_t>
  static lanes_t load_some(const skip_t* row, int64_t i, int64_t n) {
    skip_t some[kLine] = {};
    const int64_t begin = i < 0 ? 0 : i;
    const int64_t end = i + kLine < n ? i + kLine : n;
    __builtin_memcpy(some + (begin - i), row + begin, (end - begin) * sizeof(skip_t));
    return load_lanes(some);
  }

  template <bool single>
  static lanes_t blended(const Blend<AccumulateOf<element_t>>& blend, int64_t i) {
    lanes_t value = blend.lower_weight * load_lanes(blend.lower + i);
    if constexpr (!single) {
      value += blend.upper_weight * load_lanes(blend.upper + i);
    }
    return value;
  }

  template <bool single, typename skip_t>
  void write_lines(const Blend<AccumulateOf<element_t>>& blend, const skip_t* skip, element_t* out,
                   int64_t n) {
    if (!stream_) {
      const int64_t i = skip != nullptr ? whole_lines<single, true, false>(blend, skip, out, 0, n)
                                        : whole_lines<single, false, false>(blend, skip, out, 0, n);
      if (i < n) {
        lanes_t value = blended<single>(blend, i);
        if (skip != nullptr) {
          value += load_first(skip + i, n - i);
        }
        store_first(out + i, value, n - i);
      }
      return;
    }
    const int64_t fill = past_line(out);
    int64_t i = -fill;
    if (fill > 0) {
      lanes_t value = blended<single>(blend, i);
      if (skip != nullptr) {
        value += load_some(skip, i, n);
      }
      for (int64_t k = 0; k < kLine; ++k) {
        kept_[k] = k < fill ? kept_[k] : value[k];
      }
      if (i + kLine > n) {
        return;
      }
      if (foreign_ > 0) {
        store_some(out + i, foreign_, kLine, kept_);
        foreign_ = 0;
      } else {
        store_lanes<true>(out + i, kept_);
      }
      i += kLine;
    }
    i = skip != nullptr ? whole_lines<single, true, true>(blend, skip, out, i, n)
                        : whole_lines<single, false, true>(blend, skip, out, i, n);
    if (i < n) {
      kept_ = blended<single>(blend, i);
      if (skip != nullptr) {
        kept_ += load_first(skip + i, n - i);
      }
    }
  }

  template <bool single, bool has_skip, bool stream, typename skip_t>
  static int64_t whole_lines(const Blend<AccumulateOf<element_t>>& blend,
                             const skip_t* __restrict skip, element_t* __restrict out, int64_t i,
                             int64_t n) {
    const auto line = [&](int64_t at) {
      lanes_t value = blended<single>(blend, at);
      if constexpr (has_skip) {
        value += load_lanes(skip + at);
      }
      return value;
    };
    if (stream && kLine * sizeof(element_t) < 64 && i + kLine <= n &&
        reinterpret_cast<uintptr_t>(out + i) % 64 != 0) {
      store_lanes<stream>(out + i, line(i));
      i += kLine;
    }
    for (; i + 2 * kLine <= n; i += 2 * kLine) {
      store_lanes<stream>(out + i, line(i), line(i + kLine));
    }
    for (; i + kLine <= n; i += kLine) {
      store_lanes<stream>(out + i, line(i));
    }
    return i;
  }

  const bool stream_;
  element_t* next_ = nullptr;  // where the next element goes
  lanes_t kept_{};             // the line it lies in, as far as it is known
  int64_t foreign_ = 0;        // elements at the start of that line that are not ours
};

template <typename element_t>
void forward(const BilinearForward& args, int64_t begin, int64_t end, void* scratch_) {
  using accumulate_t = AccumulateOf<element_t>;
  const BilinearWork& work = args.work;
  const int64_t rows = work.shape.y.output_size;
  const int64_t columns = work.shape.x.output_size;
  const int64_t bands = work.shape.y.input_size + 1;
  char* scratch = static_cast<char*>(scratch_);
  const int64_t size = kAlign + wide_size(work, work.tile_columns);
  accumulate_t* lower = take<accumulate_t>(scratch, size) + kAlign;
  accumulate_t* upper = take<accumulate_t>(scratch, size) + kAlign;
  accumulate_t* skip_row = take<accumulate_t>(scratch, size);
  accumulate_t* staged = take<accumulate_t>(scratch, narrow_size(work));
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
