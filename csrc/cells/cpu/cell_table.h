// The cells of an axis, tabulated from the exact integers of common/geometry.h.
#pragma once

#include <algorithm>
#include <vector>

#include "bilinear/bilinear_checks.h"
#include "cells/cpu/cells.h"
#include "common/cpu/weights.h"
#include "common/geometry.h"

namespace fcn_ext {

inline ScoreMap score_map(const torch::stable::Tensor& input) {
  return {input.const_data_ptr(), element_index(input.scalar_type()), strides_of(input)};
}

constexpr int64_t kGroup = 16;  // side by side; a multiple of the lanes of any register

// The node rows that a strip holds, all classes, stay in a core's share of the L3 cache. Narrower
// strips would fit the L2, but would read scores in pieces of one or two cache lines, which costs
// more. Within a strip, a lower node row is reused as the next cell row's upper one.
constexpr int64_t kStripBytes = int64_t{1600} << 10;

// The number of cells in a strip that takes bytes_per_cell for each: whole groups, at most all.
inline int64_t strip_cells(const BilinearAxis& x, int64_t bytes_per_cell) {
  const int64_t fitting = std::max<int64_t>(1, kStripBytes / bytes_per_cell / kGroup) * kGroup;
  return std::min(fitting, (x.input_size + kGroup) / kGroup * kGroup);
}

// Owns the tables that a CellAxis points to.
class CellTable {
 public:
  CellTable(const BilinearAxis& axis, bool in_double, bool by_phase)
      : begin_(axis.input_size + 2),
        upper_part_(axis.output_size),
        lower_(axis.output_size, in_double),
        upper_(axis.output_size, in_double),
        pitch_((axis.input_size + 1 + 2 * kGroup - 1) / kGroup * kGroup + kGroup) {
    const int64_t cells = axis.input_size + 1;
    int64_t cell = 0;
    for (int64_t o = 0; o < axis.output_size; ++o) {
      const BilinearTap tap = bilinear_tap(unclamped(axis), o);
      while (cell <= tap.node + 1) {
        begin_[cell++] = o;
      }
      upper_part_[o] = static_cast<double>(tap.numerator);
      lower_.set(o, lower_weight<double>(axis, tap));
      upper_.set(o, upper_weight<double>(axis, tap));
    }
    while (cell <= cells) {
      begin_[cell++] = axis.output_size;
    }
    number_phases(whole_stride(axis), axis);
    view_ = {axis.input_size,
             axis.output_size,
             axis.clamp,
             begin_.data(),
             upper_part_.data(),
             whole_weight(axis),
             lower_.data(),
             upper_.data(),
             weight_step(axis),
             std::find(upper_part_.begin(), upper_part_.end(), 0.0) != upper_part_.end(),
             phases_,
             pitch_,
             nullptr,
             nullptr,
             nullptr};
    if (by_phase) {
      tabulate_phases(axis, in_double);
    }
  }

  const CellAxis& view() const { return view_; }

 private:
  // Counts the phases and finds the phase of each cell's first output.
  void number_phases(int64_t stride, const BilinearAxis& axis) {
    const int64_t cells = axis.input_size + 1;
    const auto outputs = [&](int64_t q) { return begin_[q + 1] - begin_[q]; };
    int64_t first_used = 0, most = 0;
    for (int64_t q = cells - 1; q >= 0; --q) {
      first_used = outputs(q) > 0 ? q : first_used;
      most = std::max(most, outputs(q));
    }
    first_phase_.resize(cells);
    alike_ = stride > 0 && most == stride;
    if (alike_) {
      for (int64_t q = first_used; q < cells; ++q) {
        if (outputs(q) > 0) {
          first_phase_[q] = phase_of(axis, static_cast<int64_t>(upper_part_[begin_[q]]));
        }
      }
    } else if (stride > 0 && begin_[first_used + 1] < axis.output_size) {
      // A crop narrower than a cell that spans a node: the first cell has only its last outputs.
      first_phase_[first_used] = most - outputs(first_used);
    }
    phases_ = most;
  }

  void tabulate_phases(const BilinearAxis& axis, bool in_double) {
    const int64_t zero = alike_ ? phase_zero(axis) : 0;
    output_.assign(phases_ * pitch_, -1);
    phase_lower_ = WeightTable(phases_ * pitch_, in_double);
    phase_upper_ = WeightTable(phases_ * pitch_, in_double);
    for (int64_t phase = 0; phase < phases_; ++phase) {
      for (int64_t q = 0; q < pitch_; ++q) {
        const int64_t at = phase * pitch_ + q;
        const bool used = q <= axis.input_size && begin_[q] < begin_[q + 1];
        const BilinearTap tap = used && !alike_
                                    ? phase_tap(axis, static_cast<int64_t>(upper_part_[begin_[q]]),
                                                phase - first_phase_[q])
                                    : phase_tap(axis, zero, phase);
        phase_lower_.set(at, lower_weight<double>(axis, tap));
        phase_upper_.set(at, upper_weight<double>(axis, tap));
        if (used) {
          const int64_t o = begin_[q] + phase - first_phase_[q];
          if (o >= begin_[q] && o < begin_[q + 1]) {
            output_[at] = static_cast<int32_t>(o);
          }
        }
      }
    }
    view_.output = output_.data();
    view_.phase_lower = phase_lower_.data();
    view_.phase_upper = phase_upper_.data();
  }

  std::vector<int64_t> begin_;
  std::vector<double> upper_part_;
  WeightTable lower_, upper_;
  int64_t pitch_, phases_ = 1;
  bool alike_ = false;                // every cell's phases lie as in the first
  std::vector<int64_t> first_phase_;  // of each cell that has outputs
  std::vector<int32_t> output_;
  WeightTable phase_lower_, phase_upper_;
  CellAxis view_{};
};

}  // namespace fcn_ext
