// Writes rows out of the caches. For *_kernels.cpp only (common/cpu/capability.h says why the
// anonymous namespace).
#pragma once

#include "bilinear/cpu/rows.h"

namespace fcn_ext {
namespace {

template <typename accumulate_t>
struct Blend {
  const accumulate_t* lower;
  const accumulate_t* upper;
  accumulate_t lower_weight, upper_weight;

  // A zero weight reads nothing, so that an infinity there does not become NaN.
  bool single() const { return upper_weight == 0; }
};

// Writes output rows. What goes past the caches is stored in whole cache lines, one store each. A
// row that follows another does not start on a new line, so the line that two rows share is held
// here until it is complete. (Storing it twice would wait for memory to be read in between.)
template <typename element_t>
class RowWriter {
 public:
  explicit RowWriter(bool stream) : stream_(stream) {}

  // out[0, n) = blend (+ skip). Rows must have room to be read in whole lines at both ends.
  template <typename skip_t>
  void write(const Blend<accumulate_of<element_t>>& blend, const skip_t* skip, element_t* out,
             int64_t n) {
    if (stream_ && out != next_) {
      finish();
      foreign_ = past_line(out);
    }
    if (blend.single()) {
      stream_ ? write_lines<true>(blend, skip, out, n) : write_row<true>(blend, skip, out, n);
    } else {
      stream_ ? write_lines<false>(blend, skip, out, n) : write_row<false>(blend, skip, out, n);
    }
    next_ = out + n;
  }

  // Writes what is left of the last line.
  void finish() {
    const int64_t fill = past_line(next_);
    if (stream_ && fill > foreign_) {
      store_some(next_ - fill, foreign_, fill);
    }
    foreign_ = 0;
  }

 private:
  static constexpr int64_t kLine = 64 / sizeof(element_t);
  static constexpr int64_t kRegisters = kLine / kLanes<element_t>;
  using lanes_t = Lanes<element_t>;

  struct Line {
    lanes_t lanes[kRegisters];
  };

  static int64_t past_line(const element_t* at) {
    return static_cast<int64_t>(reinterpret_cast<uintptr_t>(at) / sizeof(element_t)) % kLine;
  }

  template <bool stream>
  static void store_line(element_t* to, const Line& line) {
    if constexpr (kRegisters == 1) {
      store_lanes<stream>(to, line.lanes[0]);
    } else {
      store_lanes<stream>(to, line.lanes[0], line.lanes[1]);
    }
  }

  // Stores [begin, end) of the line that is held.
  void store_some(element_t* to, int64_t begin, int64_t end) const {
    element_t rounded[kLine];
    store_line<false>(rounded, kept_);
    __builtin_memcpy(to + begin, rounded + begin, (end - begin) * sizeof(element_t));
  }

  // line += row[i, i + kLine), as far as that is in [0, n).
  template <typename skip_t>
  static void add_some(Line& line, const skip_t* row, int64_t i, int64_t n) {
    skip_t some[kLine] = {};
    const int64_t begin = i < 0 ? 0 : i;
    const int64_t end = i + kLine < n ? i + kLine : n;
    __builtin_memcpy(some + (begin - i), row + begin, (end - begin) * sizeof(skip_t));
    for (int64_t r = 0; r < kRegisters; ++r) {
      line.lanes[r] += load_lanes(some + r * kLanes<element_t>);
    }
  }

  // Keeps the first `count` lanes and takes the others from `rest`.
  static void keep_first(lanes_t& kept, const lanes_t& rest, int64_t count) {
    using accumulate_t = accumulate_of<element_t>;
    lanes_t index;
    for (int64_t k = 0; k < kLanes<element_t>; ++k) {
      index[k] = static_cast<accumulate_t>(k);
    }
    kept = index < static_cast<accumulate_t>(count) ? kept : rest;
  }

  template <bool single>
  static lanes_t blended_lanes(const Blend<accumulate_of<element_t>>& blend, int64_t i) {
    lanes_t value = blend.lower_weight * load_lanes(blend.lower + i);
    if constexpr (!single) {
      value += blend.upper_weight * load_lanes(blend.upper + i);
    }
    return value;
  }

  template <bool single>
  static Line blended(const Blend<accumulate_of<element_t>>& blend, int64_t i) {
    Line line;
    for (int64_t r = 0; r < kRegisters; ++r) {
      line.lanes[r] = blended_lanes<single>(blend, i + r * kLanes<element_t>);
    }
    return line;
  }

  template <bool single, typename skip_t>
  static void write_row(const Blend<accumulate_of<element_t>>& blend, const skip_t* skip,
                        element_t* out, int64_t n) {
    int64_t i = skip != nullptr ? whole_lines<single, true, false>(blend, skip, out, 0, n)
                                : whole_lines<single, false, false>(blend, skip, out, 0, n);
    for (; i < n; i += kLanes<element_t>) {
      const int64_t count = n - i < kLanes<element_t> ? n - i : kLanes<element_t>;
      lanes_t value = blended_lanes<single>(blend, i);
      if (skip != nullptr) {
        value += load_first(skip + i, count);
      }
      store_first(out + i, value, count);
    }
  }

  template <bool single, typename skip_t>
  void write_lines(const Blend<accumulate_of<element_t>>& blend, const skip_t* skip, element_t* out,
                   int64_t n) {
    const int64_t fill = past_line(out);
    int64_t i = -fill;
    if (fill > 0) {
      Line line = blended<single>(blend, i);
      if (skip != nullptr) {
        add_some(line, skip, i, n);
      }
      for (int64_t r = 0; r < kRegisters; ++r) {
        keep_first(kept_.lanes[r], line.lanes[r], fill - r * kLanes<element_t>);
      }
      if (i + kLine > n) {
        return;
      }
      if (foreign_ > 0) {
        store_some(out + i, foreign_, kLine);
        foreign_ = 0;
      } else {
        store_line<true>(out + i, kept_);
      }
      i += kLine;
    }
    i = skip != nullptr ? whole_lines<single, true, true>(blend, skip, out, i, n)
                        : whole_lines<single, false, true>(blend, skip, out, i, n);
    if (i < n) {
      kept_ = blended<single>(blend, i);
      if (skip != nullptr) {
        add_some(kept_, skip, i, n);
      }
    }
  }

  template <bool single, bool has_skip, bool stream, typename skip_t>
  static int64_t whole_lines(const Blend<accumulate_of<element_t>>& blend,
                             const skip_t* __restrict skip, element_t* __restrict out, int64_t i,
                             int64_t n) {
#pragma GCC unroll 2
    for (; i + kLine <= n; i += kLine) {
      Line line = blended<single>(blend, i);
      if constexpr (has_skip) {
        for (int64_t r = 0; r < kRegisters; ++r) {
          line.lanes[r] += load_lanes(skip + i + r * kLanes<element_t>);
        }
      }
      store_line<stream>(out + i, line);
    }
    return i;
  }

  const bool stream_;
  element_t* next_ = nullptr;  // where the next element goes
  Line kept_{};                // the line it lies in, as far as known
  int64_t foreign_ = 0;        // elements at the start of that line that are not ours
};

}  // namespace
}  // namespace fcn_ext
