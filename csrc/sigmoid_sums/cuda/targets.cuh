// The targets of one pixel, or of several below each other, whose loads are then in flight
// together.
#pragma once

#include "common/cuda/device.cuh"
#include "sigmoid_sums/sigmoid_sums.h"

namespace fcn_ext {
namespace sigmoid_sums {

// A target as a number: in [0, 1], kVoidMask, or NaN if it is out of range.
template <typename accumulate_t>
__device__ __forceinline__ accumulate_t hard_target(int64_t label, int64_t ignore_index) {
  if (label == ignore_index) {
    return kVoidMask;
  }
  return label == 0 || label == 1 ? static_cast<accumulate_t>(label) : accumulate_t(NAN);
}
template <typename accumulate_t>
__device__ __forceinline__ accumulate_t soft_target(double target) {
  return target >= 0 && target <= 1 ? static_cast<accumulate_t>(target) : accumulate_t(NAN);
}

template <typename accumulate_t>
__device__ __forceinline__ accumulate_t target_at(const SigmoidSums& problem, int64_t at) {
  const void* data = problem.target.data;
  const int64_t ignored = problem.ignore_index;
  switch (problem.target.type) {
    case 0:
      return hard_target<accumulate_t>(static_cast<const uint8_t*>(data)[at], ignored);
    case 1:
      return hard_target<accumulate_t>(static_cast<const int16_t*>(data)[at], ignored);
    case 2:
      return hard_target<accumulate_t>(static_cast<const int32_t*>(data)[at], ignored);
    case 3:
      return hard_target<accumulate_t>(static_cast<const int64_t*>(data)[at], ignored);
    case 4:
      return soft_target<accumulate_t>(static_cast<const float*>(data)[at]);
    case 5:
      return soft_target<accumulate_t>(static_cast<const double*>(data)[at]);
    case 6:
      return soft_target<accumulate_t>(static_cast<float>(static_cast<const c10::Half*>(data)[at]));
    default:
      return soft_target<accumulate_t>(
          static_cast<float>(static_cast<const c10::BFloat16*>(data)[at]));
  }
}

constexpr int kGroup = 4;  // rows whose targets are loaded at once

// Labels as the walk's pixels read them: bytes and shorts as they are; wider ones become zero, one,
// the void label or kWrongLabel.
constexpr int kWrongLabel = 1 << 20;

// What void labels become.
__device__ __forceinline__ int void_label_of(int64_t ignore_index) {
  return ignore_index >= -32768 && ignore_index < kWrongLabel ? static_cast<int>(ignore_index)
                                                              : kWrongLabel + 1;
}

// Loads the labels of `some` targets, which are `step` elements apart.
__device__ __forceinline__ void load_labels(const SigmoidSums& problem, int64_t at, int64_t step,
                                            int some, int (&label)[kGroup]) {
  const auto load = [&](const auto* labels, const auto& convert) {
    labels += at;
#pragma unroll
    for (int j = 0; j < kGroup; ++j) {
      if (j < some) {
        label[j] = convert(*labels);
      }
      labels += step;
    }
  };
  const auto itself = [](int found) { return found; };
  const int64_t ignored = problem.ignore_index;
  const auto known = [&](int64_t found) {
    const int of_two = found == 0 || found == 1 ? static_cast<int>(found) : kWrongLabel;
    return found == ignored ? void_label_of(ignored) : of_two;
  };
  const void* const data = problem.target.data;
  switch (problem.target.type) {
    case 0:
      return load(static_cast<const uint8_t*>(data), itself);
    case 1:
      return load(static_cast<const int16_t*>(data), itself);
    case 2:
      return load(static_cast<const int32_t*>(data), known);
    default:
      return load(static_cast<const int64_t*>(data), known);
  }
}

__device__ __forceinline__ void load_numbers(const SigmoidSums& problem, int64_t at, int64_t step,
                                             int some, float (&number)[kGroup]) {
  const auto load = [&](const auto* numbers) {
    numbers += at;
#pragma unroll
    for (int j = 0; j < kGroup; ++j) {
      if (j < some) {
        const float found = static_cast<float>(*numbers);
        number[j] = found >= 0 && found <= 1 ? found : NAN;
      }
      numbers += step;
    }
  };
  switch (problem.target.type) {
    case 4:
      return load(static_cast<const float*>(problem.target.data));
    case 6:
      return load(static_cast<const c10::Half*>(problem.target.data));
    case 7:
      return load(static_cast<const c10::BFloat16*>(problem.target.data));
    default:  // labels, and doubles that a float may round to zero or one
#pragma unroll
      for (int j = 0; j < kGroup; ++j) {
        if (j < some) {
          number[j] = target_at<float>(problem, at + j * step);
        }
      }
  }
}

}  // namespace sigmoid_sums
}  // namespace fcn_ext
