// The labels of the current pixel rows, whatever the dtype of the target. For *kernels.cpp only.
#pragma once

#include <type_traits>

#include "common/labels.h"
#include "softmax/cpu/strip.h"

namespace fcn_ext {
namespace {

inline void note_invalid(int64_t* lowest, int64_t index) {
  int64_t known = __atomic_load_n(lowest, __ATOMIC_RELAXED);
  while (index < known && !__atomic_compare_exchange_n(lowest, &known, index, true,
                                                       __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
}

// Converts labels of a row: to[x] = label, or -1 where the label is ignored or out of range. wide_t
// holds all labels and the number of classes. Returns whether any label is out of range. Uses
// masks, which the compiler vectorizes.
template <bool may_ignore, typename label_t, typename wide_t>
bool convert_row(const label_t* __restrict from, int64_t step, int64_t columns, wide_t classes,
                 wide_t ignore_index, int32_t* __restrict to) {
  wide_t invalid = 0;
  const auto convert = [&](int64_t x, wide_t label) {
    const wide_t ignored = may_ignore && label == ignore_index ? wide_t(-1) : wide_t(0);
    const wide_t outside = label < 0 || label >= classes ? wide_t(-1) : wide_t(0);
    invalid |= outside & ~ignored;
    to[x] = static_cast<int32_t>(label | ignored | outside);
  };
  if (step == 1) {
    for (int64_t x = 0; x < columns; ++x) {
      convert(x, static_cast<wide_t>(from[x]));
    }
  } else {
    for (int64_t x = 0; x < columns; ++x) {
      convert(x, static_cast<wide_t>(from[x * step]));
    }
  }
  return invalid != 0;
}

template <typename label_t>
bool convert_labels(const void* from, int64_t step, int64_t columns, int64_t classes,
                    int64_t ignore_index, int32_t* to) {
  using wide_t = std::conditional_t<sizeof(label_t) == 8, int64_t, int32_t>;
  constexpr int64_t kMost = sizeof(label_t) == 8 ? INT64_MAX : INT32_MAX;
  const auto convert = [&](auto may_ignore) {
    return convert_row<decltype(may_ignore)::value>(
        static_cast<const label_t*>(from), step, columns,
        static_cast<wide_t>(classes < kMost ? classes : kMost), static_cast<wide_t>(ignore_index),
        to);
  };
  return static_cast<int64_t>(static_cast<wide_t>(ignore_index)) == ignore_index
             ? convert(std::true_type())
             : convert(std::false_type());
}

// The target as the engine reads it.
struct PixelLabels {
  const LabelMap& target;
  int64_t ignore_index, classes;
  int64_t* invalid;  // the lowest index (n, y, x) of a label out of range, or INT64_MAX
};

// Fills rows.labels for the current pixels: a class, or -1 where the label is ignored or out of
// range. (height, width) is the size of the target.
inline void load_labels(const PixelLabels& from, const PixelRows& rows, int64_t height,
                        int64_t width) {
  constexpr decltype(&convert_labels<uint8_t>) kConvert[] = {
      convert_labels<uint8_t>, convert_labels<int16_t>, convert_labels<int32_t>,
      convert_labels<int64_t>};
  const LabelMap& target = from.target;
  for (int64_t k = 0; k < rows.rows; ++k) {
    const int64_t y = rows.first_row + k;
    const int64_t at =
        rows.image * target.stride[0] + y * target.stride[1] + rows.first_column * target.stride[2];
    const bool invalid = kConvert[target.type](
        static_cast<const char*>(target.data) + at * kLabelBytes[target.type], target.stride[2],
        rows.columns, from.classes, from.ignore_index, rows.labels + k * rows.pitch);
    for (int64_t x = 0; invalid && x < rows.columns; ++x) {
      const int64_t value = label_at(target, rows.image, y, rows.first_column + x);
      if (value != from.ignore_index && (value < 0 || value >= from.classes)) {
        note_invalid(from.invalid, (rows.image * height + y) * width + rows.first_column + x);
        break;
      }
    }
  }
}

}  // namespace
}  // namespace fcn_ext
