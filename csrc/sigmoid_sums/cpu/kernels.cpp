// Sums and gradients of sigmoid losses on CPU, compiled once per instruction set
// (common/cpu/capability.h).
//
// Two node rows of a mask are widened to all its columns; the logits between them are blends of the
// two, a register of pixels at a time, and gone when the pixel's functions are computed. The
// pixels' slopes gather in two wide rows, which are narrowed to nodes when the cell rows on both
// sides of them are done. A loss takes its sums and its slopes in one such walk. Everything is
// summed in an order fixed by the shape alone.
#include "sigmoid_sums/cpu/kernels.h"

#include "sigmoid_sums/cpu/pixel.h"
#include "sigmoid_sums/cpu/rows.h"
#include "sigmoid_sums/cpu/targets.h"

namespace fcn_ext {
namespace {

constexpr int64_t kMostRows = 8;  // of a cell row that are worked on at a time
constexpr int64_t kFewRows = 3;   // fewer cost less by themselves than in a progression
constexpr int64_t kSettled = 64;  // pixels of a lane whose logarithms are taken together

template <typename accumulate_t, typename parts>
class Unit {
  using lanes_t = Register<accumulate_t>;
  using target_t = typename TargetsOf<accumulate_t, parts::soft>::one;

 public:
  Unit(const SigmoidSumsWork& given, Scratch& scratch)
      : work(given),
        rows(given, scratch),
        above(rows.take(scratch)),
        below(rows.take(scratch)),
        slopes_above(rows.take(scratch)),
        slopes_below(rows.take(scratch)),
        targets(scratch.take<target_t>(kMostRows * kMostTargets)) {}

  // Node rows [first, end), which the cell rows [first - 1, end) read. The sums leave the last of
  // them to the next unit of the mask.
  template <bool with_sums, bool with_slopes>
  void run(int64_t unit) {
    const int64_t chunk = unit % work.chunks, nodes = work.y.nodes;
    const int64_t first = 1 + chunk * nodes / work.chunks;
    const int64_t end = 1 + (chunk + 1) * nodes / work.chunks;
    const int64_t end_summed = chunk + 1 == work.chunks ? end : end - 1;
    start(unit);
    double* const total = with_sums ? work.sums + unit * kSigmoidSums : nullptr;
    for (int kind = 0; with_sums && kind < kSigmoidSums; ++kind) {
      total[kind] = 0;
    }
    sums.gamma = slope.gamma = static_cast<accumulate_t>(work.problem.gamma);
    for (int kind = 0; with_slopes && kind < kSigmoidSums; ++kind) {
      slope.weight[kind] = static_cast<const accumulate_t*>(
          work.weight)[unit / work.chunks % work.weight_masks * kSigmoidSums + kind];
    }
    moderate = !with_slopes || slope.moderate();
    if (with_slopes) {
      rows.clear(slopes_above);
      rows.clear(slopes_below);
    }
    walk(
        first - 1, with_slopes ? end : end_summed,
        [&](int64_t cell, int64_t column, int64_t whole) {
          if (with_sums && cell < end_summed) {
            registers<with_sums, with_slopes>(column, whole);
            sums.flush(total);
            if (!parts::soft) {
              total[kTarget] += static_cast<double>(found.ones);
              total[kCount] += static_cast<double>(found.counted);
            }
          } else {
            registers<false, with_slopes>(column, whole);
          }
        },
        [&](int64_t cell) {
          if (with_slopes) {
            finish_slopes(cell, first);
          }
        });
  }

 private:
  void start(int64_t unit) {
    const int64_t mask = unit / work.chunks, masks = work.problem.shape.channels;
    const PlaneStrides& strides = work.problem.target.strides;
    rows.start(mask);
    of_mask = mask / masks * strides.batch + mask % masks * strides.channel;
  }

  // Calls body(k, logit) of a register of columns in every row: by a progression, unless there are
  // too few rows or the nodes are too far from zero for one, or not finite.
  template <typename Body>
  void each_row(int64_t column, const Body& body) const {
    constexpr accumulate_t kLargest = kLargestLogit;
    const lanes_t a = load_register(above + column), b = load_register(below + column);
    const auto near = (a < kLargest) & (a > -kLargest) & (b < kLargest) & (b > -kLargest);
    if (count < kFewRows || !moderate || any_lane(near == 0)) {
      for (int64_t k = 0; k < count; ++k) {
        const lanes_t lower = y_lower[k] * a;
        body(k, AnyLogit<accumulate_t>(y_upper[k] != 0 ? lower + y_upper[k] * b : lower));
      }
      return;
    }
    LogitProgression<accumulate_t> logit(y_lower[0] * a + y_upper[0] * b,
                                         (b - a) * static_cast<accumulate_t>(work.y.weight_step));
    body(0, logit);
    for (int64_t k = 1; k < count; ++k) {
      logit.advance();
      body(k, logit);
    }
  }

  // The pixels of `count` rows, `whole` columns from `column` on, whose targets are in place.
  template <bool with_sums, bool with_slopes>
  void registers(int64_t column, int64_t whole) {
    constexpr int64_t kStep = kWidth<accumulate_t>;
    for (int64_t i = 0; i < whole; i += kStep) {
      lanes_t to_above = {}, to_below = {};
      each_row(column + i, [&](int64_t k, const auto& logit) {
        const auto target = target_at(k * kMostTargets + i);
        if constexpr (with_sums) {
          sums.add(logit, target);
        }
        if constexpr (with_slopes) {
          const lanes_t pixel = slope(logit, target);
          to_above += y_lower[k] * pixel;
          if (logit.kFinite || y_upper[k] != 0) {
            to_below += y_upper[k] * pixel;
          }
        }
      });
      if (with_sums && (i / kStep + 1) % (kSettled / kMostRows) == 0) {
        sums.settle();
      }
      if (with_slopes) {
        accumulate_t* const above_at = slopes_above + column + i;
        accumulate_t* const below_at = slopes_below + column + i;
        store_register(above_at, load_register(above_at) + to_above);
        store_register(below_at, load_register(below_at) + to_below);
      }
    }
  }

  void finish_slopes(int64_t cell, int64_t first) {
    // A clamped pad is the border's row again.
    if (work.y.clamp && cell == 0) {
      rows.add(slopes_above, slopes_below);
    }
    if (work.y.clamp && cell == work.y.nodes) {
      rows.add(slopes_below, slopes_above);
    }
    if (cell >= first) {
      rows.narrow(cell, slopes_above);
    }
    accumulate_t* const done = slopes_above;
    slopes_above = slopes_below;
    slopes_below = done;
    rows.clear(slopes_below);
  }

  // Cell rows [begin, end), some pixels at a time: pixels(cell row, first column, columns in whole
  // registers) finds the targets of `count` rows in place; then done(cell row).
  template <typename Pixels, typename Done>
  void walk(int64_t begin, int64_t end, const Pixels& pixels, const Done& done) {
    rows.widen(begin, above);
    for (int64_t cell = begin; cell < end; ++cell) {
      rows.widen(cell + 1, below);
      for (int64_t row = work.y.begin[cell]; row < work.y.begin[cell + 1]; row += kMostRows) {
        const int64_t left = work.y.begin[cell + 1] - row;
        count = left < kMostRows ? left : kMostRows;
        for (int64_t k = 0; k < count; ++k) {
          y_lower[k] = static_cast<const accumulate_t*>(work.y.lower)[row + k];
          y_upper[k] = static_cast<const accumulate_t*>(work.y.upper)[row + k];
        }
        for (int64_t column = 0; column < work.x.outputs; column += kMostTargets) {
          pixels(cell, column, load(row, column));
        }
      }
      done(cell);
      accumulate_t* const passed = above;
      above = below;
      below = passed;
    }
  }

  Targets<accumulate_t, parts> target_at(int64_t place) const {
    if constexpr (parts::soft) {
      return load_register(targets + place);
    } else {
      return load_integers<accumulate_t>(targets + place);
    }
  }

  int64_t load(int64_t row, int64_t column) {
    const PlaneStrides& strides = work.problem.target.strides;
    const int64_t left = work.x.outputs - column;
    const int64_t some = left < kMostTargets ? left : kMostTargets;
    const int64_t whole =
        (some + kWidth<accumulate_t> - 1) / kWidth<accumulate_t> * kWidth<accumulate_t>;
    found = FoundTargets();
    for (int64_t k = 0; k < count; ++k) {
      const int64_t place = of_mask + (row + k) * strides.row + column * strides.column;
      load_targets(work.problem, place, some, whole, targets + k * kMostTargets, found);
    }
    if (found.wrong) {
      __atomic_store_n(work.invalid, 1, __ATOMIC_RELAXED);
    }
    return whole;
  }

  const SigmoidSumsWork& work;
  MaskRows<accumulate_t> rows;
  PixelSums<accumulate_t, parts> sums;
  PixelSlope<accumulate_t, parts> slope{};
  accumulate_t* above;  // wide node rows
  accumulate_t* below;
  accumulate_t* slopes_above;  // what of the gradient has gathered in them
  accumulate_t* slopes_below;
  target_t* targets;  // [kMostRows][kMostTargets]
  FoundTargets found{};
  int64_t of_mask = 0, count = 0;
  bool moderate = true;  // the slopes' weights
  accumulate_t y_lower[kMostRows], y_upper[kMostRows];
};

template <typename accumulate_t, typename parts>
void run(const SigmoidSumsWork& work, int64_t begin, int64_t end, void* memory) {
  Scratch scratch{static_cast<char*>(memory)};
  Unit<accumulate_t, parts> unit(work, scratch);
  for (int64_t index = begin; index < end; ++index) {
    if (work.gradient == nullptr) {
      unit.template run<true, false>(index);
    } else if (work.sums == nullptr) {
      unit.template run<false, true>(index);
    } else if constexpr (!parts::regions) {  // no loss is a weighted sum of those
      unit.template run<true, true>(index);
    }
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
