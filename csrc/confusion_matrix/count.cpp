#include "confusion_matrix/count.h"

#include <algorithm>
#include <vector>

#include "confusion_matrix/confusion_matrix_kernels_cpu.h"

namespace fcn_ext {
namespace {

constexpr int64_t kGrain = 32768;  // pixels below which a second thread is not woken
constexpr int64_t kScoreBytes[] = {4, 8, 2, 2};

// Maps as a few long rows where memory allows it: pixels of a row are `column` elements apart.
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

// Labels of a run side by side: the map's own memory, or a copy.
const void* side_by_side(const char* start, const LabelMap& map, int64_t n, int64_t* copy) {
  if (map.stride[2] == 1) {
    return start;
  }
  const int64_t step = map.stride[2] * kLabelBytes[map.type];
  switch (map.type) {
    case 0:
      for (int64_t i = 0; i < n; ++i) {
        reinterpret_cast<uint8_t*>(copy)[i] = *reinterpret_cast<const uint8_t*>(start + i * step);
      }
      break;
    case 1:
      for (int64_t i = 0; i < n; ++i) {
        reinterpret_cast<int16_t*>(copy)[i] = *reinterpret_cast<const int16_t*>(start + i * step);
      }
      break;
    case 2:
      for (int64_t i = 0; i < n; ++i) {
        reinterpret_cast<int32_t*>(copy)[i] = *reinterpret_cast<const int32_t*>(start + i * step);
      }
      break;
    default:
      for (int64_t i = 0; i < n; ++i) {
        copy[i] = *reinterpret_cast<const int64_t*>(start + i * step);
      }
  }
  return copy;
}

// Runs body(counts, row, column, n) over all pixels in runs of at most `run`, each thread counting
// for itself, and adds everything up. Integers: the order cannot matter.
template <typename Body>
int64_t count_rows(const Rows& rows, int64_t run, int64_t num_classes, int64_t ignore_index,
                   int64_t* matrix, const ParallelFor& parallel_for, const Body& body) {
  const int64_t runs = (rows.width + run - 1) / run;
  const int64_t bins = num_classes * num_classes;
  int64_t invalid = 0;
  parallel_for(
      rows.count * runs, std::max<int64_t>(1, kGrain / run), [&](int64_t begin, int64_t end) {
        // A histogram pays when its bins are far fewer than the pixels. It is emptied before a bin
        // could overflow.
        constexpr int64_t kMostPixels = int64_t{1} << 31;
        const bool own = bins < (end - begin) * run / 4;
        const int copies = bins <= 4096 ? 4 : 1;
        std::vector<uint32_t> histogram(own ? copies * (bins + 2) : 0);
        ConfusionCounts counts{num_classes, ignore_index, own ? histogram.data() : nullptr,
                               copies,      matrix,       0};
        const auto flush = [&] {
          for (int copy = 0; own && copy < copies; ++copy) {
            uint32_t* from = histogram.data() + copy * (bins + 2);
            for (int64_t bin = 0; bin < bins; ++bin) {
              if (from[bin] != 0) {
                __atomic_fetch_add(matrix + bin, static_cast<int64_t>(from[bin]), __ATOMIC_RELAXED);
              }
            }
            counts.invalid += from[bins + 1];
            std::fill(from, from + bins + 2, 0u);
          }
        };
        int64_t pixels = 0;
        for (int64_t unit = begin; unit < end; ++unit) {
          const int64_t column = unit % runs * run;
          const int64_t n = std::min(run, rows.width - column);
          if (pixels > kMostPixels - n) {
            flush();
            pixels = 0;
          }
          pixels += n;
          body(counts, unit / runs, column, n);
        }
        flush();
        __atomic_fetch_add(&invalid, counts.invalid, __ATOMIC_RELAXED);
      });
  return invalid;
}

}  // namespace

int64_t count_labels(const LabelShape& shape, const LabelMap& prediction, const LabelMap& target,
                     int64_t num_classes, int64_t ignore_index, int64_t* matrix,
                     const ParallelFor& parallel_for) {
  constexpr int64_t kRun = 4096;
  const auto kernel = confusion_matrix_kernels().count[prediction.type][target.type];
  const Rows rows =
      rows_of(shape, joined(prediction.stride, shape) && joined(target.stride, shape));
  return count_rows(
      rows, kRun, num_classes, ignore_index, matrix, parallel_for,
      [&](ConfusionCounts& counts, int64_t row, int64_t column, int64_t n) {
        int64_t prediction_copy[kRun], target_copy[kRun];
        kernel(
            side_by_side(row_start(prediction, rows, row, column), prediction, n, prediction_copy),
            side_by_side(row_start(target, rows, row, column), target, n, target_copy), n, counts);
      });
}

int64_t count_logits(const LabelShape& shape, const LogitsMap& logits, const LabelMap& target,
                     int64_t num_classes, int64_t ignore_index, int64_t* matrix,
                     const ParallelFor& parallel_for) {
  constexpr int kInt32 = 2;
  const auto count = confusion_matrix_kernels().count[kInt32][target.type];
  const auto argmax = confusion_matrix_kernels().argmax[logits.type];
  const Rows rows =
      rows_of(shape, joined(logits.stride + 1, shape) && joined(target.stride, shape));
  return count_rows(
      rows, kArgmaxRun, num_classes, ignore_index, matrix, parallel_for,
      [&](ConfusionCounts& counts, int64_t row, int64_t column, int64_t n) {
        int32_t prediction[kArgmaxRun];
        int64_t target_copy[kArgmaxRun];
        const int64_t start = row / rows.per_image * logits.stride[0] +
                              row % rows.per_image * logits.stride[2] + column * logits.stride[3];
        argmax({static_cast<const char*>(logits.data) + start * kScoreBytes[logits.type],
                logits.channels, logits.stride[1], logits.stride[3]},
               n, prediction);
        count(prediction,
              side_by_side(row_start(target, rows, row, column), target, n, target_copy), n,
              counts);
      });
}

}  // namespace fcn_ext
