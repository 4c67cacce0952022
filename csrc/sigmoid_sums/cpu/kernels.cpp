// Sums and gradients of sigmoid losses on CPU, compiled once per instruction set
// (common/cpu/capability.h).
//
// Two node rows of a mask are widened to all its columns; the logits between them are blends of the
// two, a register of pixels at a time, and gone when the pixel's functions are computed. On the way
// back the pixels' slopes gather in two wide rows, which are narrowed to nodes when the cell rows
// on both sides of them are done. Everything is summed in an order fixed by the shape alone.
#include "sigmoid_sums/cpu/kernels.h"

#include "sigmoid_sums/cpu/pixel.h"
#include "sigmoid_sums/cpu/rows.h"
#include "sigmoid_sums/cpu/targets.h"

namespace fcn_ext {
namespace {

constexpr int64_t kMostRows = 8;  // of a cell row that are worked on at a time
constexpr int64_t kFewRows = 3;   // fewer cost less by themselves than in a progression

template <typename accumulate_t, typename parts>
class Unit {
  using lanes_t = Register<accumulate_t>;

 public:
  Unit(const SigmoidSumsWork& given, Scratch& scratch)
      : work(given),
        rows(given, scratch),
        above(rows.take(scratch)),
        below(rows.take(scratch)),
        slopes_above(rows.take(scratch)),
        slopes_below(rows.take(scratch)),
        targets(scratch.take<accumulate_t>(kMostRows * kMostTargets)) {}

  void sum(int64_t unit) {
    const int64_t chunk = unit % work.chunks, cells = work.y.nodes + 1;
    start(unit);
    double* const total = work.sums + unit * kSigmoidSums;
    for (int kind = 0; kind < kSigmoidSums; ++kind) {
      total[kind] = 0;
    }
    PixelSums<accumulate_t, parts> sums;
    sums.gamma = static_cast<accumulate_t>(work.problem.gamma);
    walk(
        chunk * cells / work.chunks, (chunk + 1) * cells / work.chunks,
        [&](int64_t column, int64_t whole) {
          for (int64_t i = 0; i < whole; i += kWidth<accumulate_t>) {
            each_row(column + i, [&](int64_t k, const auto& logit) {
              sums.add(logit, load_register(targets + k * kMostTargets + i));
            });
          }
          sums.flush(total);
        },
        [](int64_t) {});
  }

  void backward(int64_t unit) {
    const int64_t chunk = unit % work.chunks, nodes = work.y.nodes;
    const int64_t first = 1 + chunk * nodes / work.chunks;
    const int64_t end = 1 + (chunk + 1) * nodes / work.chunks;
    start(unit);
    PixelSlope<accumulate_t, parts> slope;
    slope.gamma = static_cast<accumulate_t>(work.problem.gamma);
    for (int kind = 0; kind < kSigmoidSums; ++kind) {
      slope.weight[kind] = static_cast<const accumulate_t*>(
          work.grad_output)[unit / work.chunks * kSigmoidSums + kind];
    }
    rows.clear(slopes_above);
    rows.clear(slopes_below);
    walk(
        first - 1, end,
        [&](int64_t column, int64_t whole) {
          for (int64_t i = 0; i < whole; i += kWidth<accumulate_t>) {
            lanes_t to_above = load_register(slopes_above + column + i);
            lanes_t to_below = load_register(slopes_below + column + i);
            each_row(column + i, [&](int64_t k, const auto& logit) {
              const lanes_t pixel = slope(logit, load_register(targets + k * kMostTargets + i));
              to_above += y_lower[k] * pixel;
              if (y_upper[k] != 0) {
                to_below += y_upper[k] * pixel;
              }
            });
            store_register(slopes_above + column + i, to_above);
            store_register(slopes_below + column + i, to_below);
          }
        },
        [&](int64_t cell) {
          // A clamped pad is the border's row again.
          if (work.y.clamp && cell == 0) {
            rows.add(slopes_above, slopes_below);
          }
          if (work.y.clamp && cell == nodes) {
            rows.add(slopes_below, slopes_above);
          }
          if (cell >= first) {
            rows.narrow(cell, slopes_above);
          }
          accumulate_t* const done = slopes_above;
          slopes_above = slopes_below;
          slopes_below = done;
          rows.clear(slopes_below);
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
    if (count < kFewRows || any_lane(near == 0)) {
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
      logit.advance(k);
      body(k, logit);
    }
  }

  // Cell rows [begin, end), some pixels at a time: pixels(first column, columns in whole registers)
  // finds the targets of `count` rows in place; then done(cell row).
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
          pixels(column, load(row, column));
        }
      }
      done(cell);
      accumulate_t* const passed = above;
      above = below;
      below = passed;
    }
  }

  int64_t load(int64_t row, int64_t column) {
    const PlaneStrides& strides = work.problem.target.strides;
    const int64_t left = work.x.outputs - column;
    const int64_t some = left < kMostTargets ? left : kMostTargets;
    const int64_t whole =
        (some + kWidth<accumulate_t> - 1) / kWidth<accumulate_t> * kWidth<accumulate_t>;
    bool invalid = false;
    for (int64_t k = 0; k < count; ++k) {
      const int64_t place = of_mask + (row + k) * strides.row + column * strides.column;
      invalid |= load_targets(work.problem, place, some, whole, targets + k * kMostTargets);
    }
    if (invalid) {
      __atomic_store_n(work.invalid, 1, __ATOMIC_RELAXED);
    }
    return whole;
  }

  const SigmoidSumsWork& work;
  MaskRows<accumulate_t> rows;
  accumulate_t* above;  // wide node rows
  accumulate_t* below;
  accumulate_t* slopes_above;  // what of the gradient has gathered in them
  accumulate_t* slopes_below;
  accumulate_t* targets;  // [kMostRows][kMostTargets]
  int64_t of_mask = 0, count = 0;
  accumulate_t y_lower[kMostRows], y_upper[kMostRows];
};

template <typename accumulate_t, typename parts>
void run(const SigmoidSumsWork& work, int64_t begin, int64_t end, void* memory) {
  Scratch scratch{static_cast<char*>(memory)};
  Unit<accumulate_t, parts> unit(work, scratch);
  for (int64_t index = begin; index < end; ++index) {
    work.gradient != nullptr ? unit.backward(index) : unit.sum(index);
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
  Unit<accumulate_t, Parts<false, false, false>> unit(work, scratch);
  return scratch.used;
}

}  // namespace

extern const SigmoidSumsKernels FCN_EXT_CAPABILITY_NAME(sigmoid_sums_kernels);
const SigmoidSumsKernels FCN_EXT_CAPABILITY_NAME(sigmoid_sums_kernels) = {
    {scratch_bytes<float>, scratch_bytes<double>}, {run<float>, run<double>}};

}  // namespace fcn_ext
