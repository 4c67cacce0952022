// The cells of an axis, tabulated from the exact integers of common/geometry.h.
#pragma once

#include <algorithm>
#include <vector>

#include "cells/cpu/cells.h"
#include "common/cpu/weights.h"
#include "common/geometry.h"

namespace fcn_ext {

constexpr int64_t kGroup = 16;  // cells side by side, a multiple of every register's

// Owns what a CellAxis points to.
class CellTable {
 public:
  CellTable(const BilinearAxis& axis, bool in_double, bool by_phase)
      : begin_(axis.input_size + 2),
        upper_number_(axis.output_size),
        lower_(axis.output_size, in_double),
        upper_(axis.output_size, in_double),
        pitch_((axis.input_size + 1 + 2 * kGroup - 1) / kGroup * kGroup + kGroup) {
    const int64_t cells = axis.input_size + 1;
    std::vector<int64_t> first_phase(cells);
    int64_t cell = 0;
    for (int64_t o = 0; o < axis.output_size; ++o) {
      const int64_t scaled = axis.step * o + axis.start;
      const int64_t node = floor_divide(scaled, axis.denominator);
      const int64_t number = scaled - node * axis.denominator;
      while (cell <= node + 1) {
        begin_[cell++] = o;
      }
      upper_number_[o] = static_cast<double>(number);
      lower_.set(o, axis.denominator - number, axis.denominator);
      upper_.set(o, number, axis.denominator);
    }
    while (cell <= cells) {
      begin_[cell++] = axis.output_size;
    }
    const int64_t stride = whole_stride(axis);
    const int64_t first_number =
        axis.start - floor_divide(axis.start, axis.denominator) * axis.denominator;
    const int64_t phase_zero = stride > 0 ? first_number % axis.step : 0;
    phases_ = std::max<int64_t>(stride, 1);
    for (int64_t q = 0; q < cells; ++q) {
      if (begin_[q] < begin_[q + 1] && stride > 0) {
        first_phase[q] = (static_cast<int64_t>(upper_number_[begin_[q]]) - phase_zero) / axis.step;
      }
      phases_ = std::max(phases_, begin_[q + 1] - begin_[q] + first_phase[q]);
    }
    view_ = {axis.input_size,
             axis.output_size,
             axis.clamp,
             begin_.data(),
             upper_number_.data(),
             static_cast<double>(axis.denominator),
             lower_.data(),
             upper_.data(),
             static_cast<double>(axis.step) / static_cast<double>(axis.denominator),
             std::find(upper_number_.begin(), upper_number_.end(), 0.0) != upper_number_.end(),
             phases_,
             pitch_,
             nullptr,
             nullptr,
             nullptr};
    if (by_phase) {
      tabulate_phases(axis, in_double, first_phase, stride > 0 ? phase_zero : -1);
    }
  }

  const CellAxis& view() const { return view_; }

 private:
  void tabulate_phases(const BilinearAxis& axis, bool in_double,
                       const std::vector<int64_t>& first_phase, int64_t phase_zero) {
    output_.assign(phases_ * pitch_, -1);
    phase_lower_ = WeightTable(phases_ * pitch_, in_double);
    phase_upper_ = WeightTable(phases_ * pitch_, in_double);
    for (int64_t phase = 0; phase < phases_; ++phase) {
      for (int64_t q = 0; q < pitch_; ++q) {
        const int64_t at = phase * pitch_ + q;
        const bool used = q <= axis.input_size && begin_[q] < begin_[q + 1];
        int64_t number = std::max<int64_t>(phase_zero, 0);
        if (used && phase_zero < 0) {
          number = static_cast<int64_t>(upper_number_[begin_[q]]);
        }
        number = std::min(number + phase * axis.step, axis.denominator);
        phase_lower_.set(at, axis.denominator - number, axis.denominator);
        phase_upper_.set(at, number, axis.denominator);
        if (used) {
          const int64_t o = begin_[q] + phase - first_phase[q];
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
  std::vector<double> upper_number_;
  WeightTable lower_, upper_;
  int64_t pitch_, phases_ = 1;
  std::vector<int32_t> output_;
  WeightTable phase_lower_, phase_upper_;
  CellAxis view_{};
};

}  // namespace fcn_ext
