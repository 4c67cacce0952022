#include "confusion_matrix/cpu/count.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "common/cpu/subnormals.h"
#include "confusion_matrix/cpu/kernels.h"

namespace fcn_ext {
namespace {

constexpr int64_t kGrain = 32768;  // pixels below which a second thread is not woken
constexpr int64_t kScoreBytes[] = {4, 8, 2, 2};

// Pixels as rows: a few long ones if the memory of the maps allows it.
struct Rows {
  int64_t count, width;
  int64_t per_image;
};

bool joined(const int64_t* stride, const LabelShape& shape) {
  return stride[1] == shape.width * stride[2] || shape.height == 1;
}

Rows rows_of(const LabelShape& shape, bool join) {
  if (join) {
    return {shape.batch, shape.height * shape.width, 1};
  }
  return {shape.batch * shape.height, shape.width, shape.height};
}

const char* row_start(const LabelMap& map, const Rows& rows, int64_t row, int64_t column) {
  const int64_t element = row / rows.per_image * map.stride[0] +
                          row % rows.per_image * map.stride[1] + column * map.stride[2];
  return static_cast<const char*>(map.data) + element * kLabelBytes[map.type];
}

// The labels of a run, contiguous: the map's own memory, or a copy.
template <typename label_t>
const void* gathered(const char* start, int64_t step, int64_t n, int64_t* copy) {
  auto* to = reinterpret_cast<label_t*>(copy);
  for (int64_t i = 0; i < n; ++i) {
    to[i] = *reinterpret_cast<const label_t*>(start + i * step);
  }
  return copy;
}

const void* side_by_side(const char* start, const LabelMap& map, int64_t n, int64_t* copy) {
  if (map.stride[2] == 1) {
    return start;
  }
  const int64_t step = map.stride[2] * kLabelBytes[map.type];
  switch (map.type) {
    case 0:
      return gathered<uint8_t>(start, step, n, copy);
    case 1:
      return gathered<int16_t>(start, step, n, copy);
    case 2:
      return gathered<int32_t>(start, step, n, copy);
    default:
      return gathered<int64_t>(start, step, n, copy);
  }
}

// Runs body(counter, row, column, n) over all pixels in runs of at most `run`, with one counter per
// thread, and adds everything up. Counts are integers, so their order does not matter.
template <typename Body>
int64_t count_rows(const Rows& rows, int64_t run, int64_t num_classes, int64_t ignore_index,
                   int64_t* matrix, const ParallelFor& parallel_for, const Body& body) {
  const int64_t runs = (rows.width + run - 1) / run;
  int64_t invalid = 0;
  ByteCounts bytes;
  parallel_for(rows.count * runs, std::max<int64_t>(1, kGrain / run),
               [&](int64_t begin, int64_t end) {
                 PixelCounter counter(num_classes, ignore_index, matrix, (end - begin) * run);
                 for (int64_t unit = begin; unit < end; ++unit) {
                   const int64_t column = unit % runs * run;
                   body(counter, unit / runs, column, std::min(run, rows.width - column));
                 }
                 counter.finish(&invalid, bytes);
               });
  bytes.add_to(matrix, num_classes * num_classes, parallel_for);
  return invalid;
}

}  // namespace

PixelCounter::PixelCounter(int64_t num_classes, int64_t ignore_index, int64_t* matrix,
                           int64_t pixels)
    : num_classes_(num_classes), ignore_index_(ignore_index), matrix_(matrix) {
  // A histogram pays if emptying it takes little time beside counting the pixels: a byte takes a
  // hundredth of the time of an atomic addition.
  constexpr int64_t kFewBins = 4096, kMostBytes = int64_t{4} << 20;
  const int64_t bins = num_classes * num_classes;
  if (bins <= kFewBins && bins < pixels / 4) {
    histogram_.resize(ConfusionCounts::kCopies * (bins + 2));
  } else if (bins <= kMostBytes && bins / 2 < pixels) {
    bytes_.resize((bins + 2 + 7) / 8 * 8);
  }
}

void PixelCounter::count(const void* prediction, int prediction_type, const void* target,
                         int target_type, int64_t n) {
  // Empty the histogram before a bin could overflow.
  constexpr int64_t kMostPixels = int64_t{1} << 31;
  if (pixels_ > kMostPixels - n) {
    flush();
  }
  pixels_ += n;
  ConfusionCounts counts{num_classes_,
                         ignore_index_,
                         histogram_.empty() ? nullptr : histogram_.data(),
                         bytes_.empty() ? nullptr : bytes_.data(),
                         matrix_,
                         invalid_};
  confusion_matrix_kernels().count[prediction_type][target_type](prediction, target, n, counts);
  invalid_ = counts.invalid;
}

void PixelCounter::count_against(const void* prediction, int prediction_type,
                                 const LabelMap& target, int64_t n_image, int64_t row,
                                 int64_t width) {
  constexpr int64_t kRun = 1024;
  const int64_t start = n_image * target.stride[0] + row * target.stride[1];
  int64_t copy[kRun];
  for (int64_t x = 0; x < width; x += kRun) {
    const int64_t n = std::min(kRun, width - x);
    const char* from = static_cast<const char*>(target.data) +
                       (start + x * target.stride[2]) * kLabelBytes[target.type];
    count(static_cast<const char*>(prediction) + x * kLabelBytes[prediction_type], prediction_type,
          side_by_side(from, target, n, copy), target.type, n);
  }
}

void PixelCounter::add(int64_t bin, int64_t pixels) {
  const int64_t bins = num_classes_ * num_classes_;
  if (bin < bins) {
    __atomic_fetch_add(matrix_ + bin, pixels, __ATOMIC_RELAXED);
  } else if (bin > bins) {
    invalid_ += pixels;
  }
}

void PixelCounter::flush() {
  const int64_t size = num_classes_ * num_classes_ + 2;
  for (size_t i = 0; i < histogram_.size(); ++i) {
    if (histogram_[i] != 0) {
      add(static_cast<int64_t>(i) % size, histogram_[i]);
    }
  }
  std::fill(histogram_.begin(), histogram_.end(), 0u);
  pixels_ = 0;
}

void PixelCounter::finish(int64_t* invalid, ByteCounts& bytes) {
  flush();
  if (!bytes_.empty()) {
    invalid_ += bytes_[num_classes_ * num_classes_ + 1];
    bytes.take(std::move(bytes_));
  }
  __atomic_fetch_add(invalid, invalid_, __ATOMIC_RELAXED);
  invalid_ = 0;
}

void ByteCounts::take(std::vector<uint8_t> bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  taken_.push_back(std::move(bytes));
}

void ByteCounts::add_to(int64_t* matrix, int64_t bins, const ParallelFor& parallel_for) {
  constexpr int64_t kEight = 8, kEights = 8192;
  if (taken_.empty()) {
    return;
  }
  parallel_for((bins + kEight - 1) / kEight, kEights, [&](int64_t begin, int64_t end) {
    for (int64_t bin = begin * kEight; bin < std::min(end * kEight, bins); bin += kEight) {
      for (const std::vector<uint8_t>& bytes : taken_) {
        // Look at eight bins at once: often all are empty.
        uint64_t eight;
        std::memcpy(&eight, bytes.data() + bin, sizeof(eight));
        if (eight == 0) {
          continue;
        }
        if (bin + kEight <= bins) {
          for (int64_t k = 0; k < kEight; ++k) {
            matrix[bin + k] += bytes[bin + k];
          }
        } else {
          for (int64_t last = bin; last < bins; ++last) {
            matrix[last] += bytes[last];
          }
        }
      }
    }
  });
}

int64_t count_labels(const LabelShape& shape, const LabelMap& prediction, const LabelMap& target,
                     int64_t num_classes, int64_t ignore_index, int64_t* matrix,
                     const ParallelFor& parallel_for) {
  constexpr int64_t kRun = 4096;
  const Rows rows =
      rows_of(shape, joined(prediction.stride, shape) && joined(target.stride, shape));
  return count_rows(
      rows, kRun, num_classes, ignore_index, matrix, parallel_for,
      [&](PixelCounter& counter, int64_t row, int64_t column, int64_t n) {
        int64_t prediction_copy[kRun], target_copy[kRun];
        counter.count(
            side_by_side(row_start(prediction, rows, row, column), prediction, n, prediction_copy),
            prediction.type,
            side_by_side(row_start(target, rows, row, column), target, n, target_copy), target.type,
            n);
      });
}

int64_t count_logits(const LabelShape& shape, const LogitsMap& logits, const LabelMap& target,
                     int64_t num_classes, int64_t ignore_index, int64_t* matrix,
                     const ParallelFor& parallel_for) {
  constexpr int kInt32 = 2, kHalf = 2;
  const auto argmax = confusion_matrix_kernels().argmax[logits.type];
  const Rows rows =
      rows_of(shape, joined(logits.stride + 1, shape) && joined(target.stride, shape));
  return count_rows(
      rows, kArgmaxRun, num_classes, ignore_index, matrix, parallel_for,
      [&](PixelCounter& counter, int64_t row, int64_t column, int64_t n) {
        int32_t prediction[kArgmaxRun];
        int64_t target_copy[kArgmaxRun];
        const int64_t start = row / rows.per_image * logits.stride[0] +
                              row % rows.per_image * logits.stride[2] + column * logits.stride[3];
        const HalvesReadWhole reads(logits.type == kHalf);
        argmax({static_cast<const char*>(logits.data) + start * kScoreBytes[logits.type],
                logits.channels, logits.stride[1], logits.stride[3]},
               n, prediction);
        counter.count(prediction, kInt32,
                      side_by_side(row_start(target, rows, row, column), target, n, target_copy),
                      target.type, n);
      });
}

}  // namespace fcn_ext
