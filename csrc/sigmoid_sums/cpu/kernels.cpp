// Sums and gradients of sigmoid losses on CPU, compiled once per instruction set
// (common/cpu/capability.h).
//
// Two node rows of a mask are widened to all its columns. The logits between them are blends of the
// two, computed a register of pixels at a time and dropped once the pixels' functions are known.
// The pixels' slopes are gathered in two wide rows, which are narrowed to nodes when the cell rows
// on both sides of them are done. A loss takes its sums and its slopes in one such walk. Everything
// is summed in an order fixed by the shape alone.
#include "sigmoid_sums/cpu/kernels.h"

#include "sigmoid_sums/cpu/strip.h"

namespace fcn_ext {
namespace {

constexpr int64_t kPrefetched = 256;  // bytes of a row; the processor prefetches the rest itself

template <typename accumulate_t, typename parts>
class Unit {
 public:
  Unit(const SigmoidSumsWork& given, Scratch& scratch)
      : work(given), rows(given, scratch), strip(rows, scratch), pixels(scratch), hard(scratch) {
    strip.weight_step = static_cast<accumulate_t>(work.y.weight_step);
  }

  // Runs units [unit, units_end) of one mask in one walk over the cell rows that they read. A seam
  // between two units is read once, and the results are the same as in separate walks.
  template <bool with_sums, bool with_slopes>
  void run(int64_t unit, int64_t units_end) {
    const int64_t first = first_row(unit);
    const bool last = units_end % work.chunks == 0;  // of the mask
    const int64_t end = last ? work.y.nodes + 1 : first_row(units_end);
    const int64_t end_summed = last ? end : end - 1;  // the next unit sums the seam
    start(unit);
    int64_t seam = first - 1;  // the first cell row of `unit`
    double* total = nullptr;
    pixels.slope.gamma = static_cast<accumulate_t>(work.problem.gamma);
    if (with_slopes) {
      const auto* weight = static_cast<const accumulate_t*>(work.weight) +
                           unit / work.chunks % work.weight_masks * kSigmoidSums;
      pixels.set_weights(weight);
      hard.set_weights(weight);
      rows.clear(strip.slopes_above);
      rows.clear(strip.slopes_below);
    }
    walk(
        first - 1, with_slopes ? end : end_summed,
        [&](int64_t cell) {
          if (with_sums && cell == seam && unit < units_end) {
            total = work.sums + unit * kSigmoidSums;
            for (int kind = 0; kind < kSigmoidSums; ++kind) {
              total[kind] = 0;
            }
            ++unit;
            seam = unit < units_end ? first_row(unit) - 1 : end;
          }
        },
        [&](int64_t cell, int64_t row, int64_t column) {
          const auto take = [&](auto& some, int64_t whole) {
            if (with_sums && cell < end_summed) {
              some.template take<with_sums, with_slopes>(strip, column, whole, total);
            } else {
              some.template take<false, with_slopes>(strip, column, whole, nullptr);
            }
          };
          const int64_t left = work.x.outputs - column;
          const int64_t some = left < kMostTargets ? left : kMostTargets;
          constexpr int64_t kStep = kWidth<accumulate_t>;
          const int64_t whole = (some + kStep - 1) / kStep * kStep;
          const bool between = load(row, column, some, whole);
          if constexpr (parts::soft) {
            if (!between) {
              harden(whole);
              return take(hard, whole);
            }
          }
          take(pixels, whole);
        },
        [&](int64_t cell) {
          if (with_slopes) {
            finish_slopes(cell, first);
          }
        });
  }

 private:
  // The first node row of a unit; the cell row before it reads that row, too.
  int64_t first_row(int64_t unit) const {
    return 1 + unit % work.chunks * work.y.nodes / work.chunks;
  }

  void start(int64_t unit) {
    const int64_t mask = unit / work.chunks, masks = work.problem.shape.channels;
    const PlaneStrides& strides = work.problem.target.strides;
    rows.start(mask);
    of_mask = mask / masks * strides.batch + mask % masks * strides.channel;
  }

  void finish_slopes(int64_t cell, int64_t first) {
    // Add the sums of a clamped pad to the border's row, which the pad repeats.
    if (work.y.clamp && cell == 0) {
      rows.add(strip.slopes_above, strip.slopes_below);
    }
    if (work.y.clamp && cell == work.y.nodes) {
      rows.add(strip.slopes_below, strip.slopes_above);
    }
    if (cell >= first) {
      rows.narrow(cell, strip.slopes_above);
    }
    accumulate_t* const done = strip.slopes_above;
    strip.slopes_above = strip.slopes_below;
    strip.slopes_below = done;
    rows.clear(strip.slopes_below);
  }

  // For cell rows [begin, end), calls enter(cell row), then take(cell row, first row, first column)
  // for some pixels at a time, then done(cell row).
  template <typename Enter, typename Take, typename Done>
  void walk(int64_t begin, int64_t end, const Enter& enter, const Take& take, const Done& done) {
    rows.widen(begin, strip.above);
    for (int64_t cell = begin; cell < end; ++cell) {
      enter(cell);
      rows.widen(cell + 1, strip.below);
      rows.prefetch(cell + 2);
      rows.prefetch_gradient(cell);
      for (int64_t row = work.y.begin[cell]; row < work.y.begin[cell + 1]; row += kMostRows) {
        const int64_t left = work.y.begin[cell + 1] - row,
                      count = left < kMostRows ? left : kMostRows;
        strip.count = count;
        strip.is_first = row == work.y.begin[cell];
        for (int64_t k = 0; k < count; ++k) {
          strip.y_lower[k] = static_cast<const accumulate_t*>(work.y.lower)[row + k];
          strip.y_upper[k] = static_cast<const accumulate_t*>(work.y.upper)[row + k];
        }
        for (int64_t column = 0; column < work.x.outputs; column += kMostTargets) {
          const int64_t next = column + kMostTargets;
          next < work.x.outputs ? prefetch(row, next, count) : prefetch(row + count, 0, kMostRows);
          take(cell, row, column);
        }
      }
      done(cell);
      accumulate_t* const passed = strip.above;
      strip.above = strip.below;
      strip.below = passed;
    }
  }

  // Prefetches the targets that are needed next: so many rows are more streams than the processor
  // follows. Inlined, since GCC removes calls of functions that only prefetch.
  __attribute__((always_inline)) void prefetch(int64_t row, int64_t column, int64_t most) const {
    const MaskMap& map = work.problem.target;
    const int64_t size = kTargetBytes[map.type], bytes = map.strides.column * size;
    const int64_t end = row + most < work.y.outputs ? row + most : work.y.outputs;
    const int64_t columns = work.x.outputs - column;
    const int64_t length = bytes * (columns < kMostTargets ? columns : kMostTargets);
    for (; row < end; ++row) {
      const char* from = static_cast<const char*>(map.data) +
                         (of_mask + row * map.strides.row + column * map.strides.column) * size;
      for (int64_t at = 0; at < length && at < kPrefetched; at += 64) {
        __builtin_prefetch(from + at);
      }
    }
  }

  // Loads the targets of `some` columns of the strip's rows, filled up to `whole` columns with void
  // ones. Returns whether there are numbers between zero and one.
  bool load(int64_t row, int64_t column, int64_t some, int64_t whole) {
    const PlaneStrides& strides = work.problem.target.strides;
    FoundTargets found;
    for (int64_t k = 0; k < strip.count; ++k) {
      const int64_t place = of_mask + (row + k) * strides.row + column * strides.column;
      load_targets(work.problem, place, some, whole, pixels.targets + k * kMostTargets, found);
    }
    if (found.wrong) {
      __atomic_store_n(work.invalid, 1, __ATOMIC_RELAXED);
    }
    return found.between;
  }

  // Stores numbers that are all zero, one or void as labels.
  void harden(int64_t whole) {
    for (int64_t k = 0; k < strip.count; ++k) {
      const auto* __restrict const from = pixels.targets + k * kMostTargets;
      int8_t* __restrict const to = hard.targets + k * kMostTargets;
      for (int64_t i = 0; i < whole; ++i) {
        to[i] = static_cast<int8_t>(from[i]);
      }
    }
  }

  const SigmoidSumsWork& work;
  MaskRows<accumulate_t> rows;
  Strip<accumulate_t> strip;
  Pixels<accumulate_t, parts> pixels;
  // For numbers that could be labels: torch's own loss takes numbers only, and most of them are
  // zeros and ones.
  Pixels<accumulate_t, Parts<parts::regions, false, false>> hard;
  int64_t of_mask = 0;
};

template <typename accumulate_t, typename parts>
void run(const SigmoidSumsWork& work, int64_t begin, int64_t end, void* memory) {
  Scratch scratch{static_cast<char*>(memory)};
  Unit<accumulate_t, parts> unit(work, scratch);
  while (begin < end) {
    const int64_t end_of_mask = (begin / work.chunks + 1) * work.chunks;
    const int64_t some = end < end_of_mask ? end : end_of_mask;
    if (work.gradient == nullptr) {
      unit.template run<true, false>(begin, some);
    } else if (work.sums == nullptr) {
      unit.template run<false, true>(begin, some);
    } else if constexpr (!parts::regions) {  // no loss is a weighted sum of these
      unit.template run<true, true>(begin, some);
    }
    begin = some;
  }
}

template <typename accumulate_t>
void run(const SigmoidSumsWork& work, int64_t begin, int64_t end, void* memory) {
  const bool regions = work.problem.regions, focal = work.problem.focal;
  if (work.problem.target.type >= kFirstSoftMask) {
    regions ? run<accumulate_t, Parts<true, false, true>>(work, begin, end, memory)
            : run<accumulate_t, Parts<false, false, true>>(work, begin, end, memory);
  } else if (focal) {
    regions ? run<accumulate_t, Parts<true, true, false>>(work, begin, end, memory)
            : run<accumulate_t, Parts<false, true, false>>(work, begin, end, memory);
  } else {
    regions ? run<accumulate_t, Parts<true, false, false>>(work, begin, end, memory)
            : run<accumulate_t, Parts<false, false, false>>(work, begin, end, memory);
  }
}

template <typename accumulate_t>
int64_t scratch_bytes(const SigmoidSumsWork& work) {
  Scratch scratch{nullptr};
  Unit<accumulate_t, Parts<false, false, true>> unit(work, scratch);  // numbers need the most
  return scratch.used;
}

}  // namespace

extern const SigmoidSumsKernels FCN_EXT_CAPABILITY_NAME(sigmoid_sums_kernels);
const SigmoidSumsKernels FCN_EXT_CAPABILITY_NAME(sigmoid_sums_kernels) = {
    {scratch_bytes<float>, scratch_bytes<double>}, {run<float>, run<double>}};

}  // namespace fcn_ext
