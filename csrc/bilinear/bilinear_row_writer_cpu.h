// Rows on their way out of the caches. For bilinear_*_kernels_cpu.cpp only (common/cpu_capability.h
// says why the anonymous namespace).
#pragma once

#include "bilinear/bilinear_rows_cpu.h"

namespace fcn_ext {
namespace {

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

  // out[0, n) = blend (+ skip). Rows have room to be read in whole lines at both ends.
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

}  // namespace
}  // namespace fcn_ext
