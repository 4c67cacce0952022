// Tables, threads and sinks around the CPU kernels of the argmax.
#include <algorithm>

#include "argmax/argmax_operators.h"
#include "argmax/cpu/kernels.h"
#include "cells/cpu/cell_table.h"
#include "common/cpu/subnormals.h"
#include "common/cpu/thread_scratch.h"
#include "common/cpu/torch_parallel_for.h"

namespace fcn_ext {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Pixels times classes below which a second thread is not woken.
constexpr int64_t kGrain = 131072;

// Runs the kernels over all units. make_sink(units) makes each thread's sink: an object with
// take(image, row, labels), and finish(), which is called after the last row.
template <typename MakeSink>
void run(const Tensor& input, const BilinearAxes& axes, void* probability,
         const MakeSink& make_sink) {
  const bool in_double = input.scalar_type() == ScalarType::Double;
  const int64_t classes = input.size(1), cell_rows = axes.y.input_size + 1;
  const int64_t units = input.size(0) * cell_rows;
  if (units == 0) {
    return;
  }
  const CellTable y(axes.y, in_double, false), x(axes.x, in_double, true);
  const ArgmaxWork work{{input.size(0), classes, axes.y, axes.x},
                        score_map(input),
                        y.view(),
                        x.view(),
                        strip_cells(axes.x, classes * 2 * (in_double ? 8 : 4)),
                        probability};
  const ArgmaxKernels& kernels = argmax_kernels();
  const int type = accumulation_index(input.scalar_type());
  const int64_t scratch_bytes = kernels.scratch[type](work);
  const int64_t unit_work = std::max<int64_t>(
      1, (axes.y.output_size * axes.x.output_size + axes.y.input_size * axes.x.input_size) *
             classes / cell_rows);
  parallel_for(units, std::max<int64_t>(1, kGrain / unit_work), [&](int64_t begin, int64_t end) {
    const HalvesReadWhole reads(input.scalar_type() == ScalarType::Half);
    auto sink = make_sink(end - begin);
    using sink_t = decltype(sink);
    const RowSink plain{[](void* context, int64_t image, int64_t row, const int32_t* labels) {
                          static_cast<sink_t*>(context)->take(image, row, labels);
                        },
                        &sink};
    kernels.run[type](work, begin, end, plain, thread_scratch(scratch_bytes));
    sink.finish();
  });
}

// Writes rows of labels to a dense (N, H, W) map.
template <typename label_t>
struct LabelSink {
  label_t* labels;
  int64_t height, width;

  void take(int64_t image, int64_t row, const int32_t* from) {
    label_t* to = labels + (image * height + row) * width;
    for (int64_t x = 0; x < width; ++x) {
      to[x] = static_cast<label_t>(from[x]);
    }
  }
  void finish() {}
};

struct CountSink {
  PixelCounter counter;
  const LabelMap& target;
  int64_t width;
  int64_t* invalid;
  ByteCounts& bytes;

  void take(int64_t image, int64_t row, const int32_t* labels) {
    constexpr int kInt32 = 2;
    counter.count_against(labels, kInt32, target, image, row, width);
  }
  void finish() { counter.finish(invalid, bytes); }
};

template <typename label_t>
void write_labels(const Tensor& input, const BilinearAxes& axes, Tensor& labels,
                  void* probability) {
  auto* to = static_cast<label_t*>(labels.mutable_data_ptr());
  run(input, axes, probability,
      [&](int64_t) { return LabelSink<label_t>{to, axes.y.output_size, axes.x.output_size}; });
}

}  // namespace

ArgmaxLabels ArgmaxCpu::labels(const Tensor& input, const BilinearAxes& axes, ScalarType dtype,
                               bool with_probability) {
  ArgmaxResult result = empty_argmax(input, axes, dtype, with_probability);
  void* probability = with_probability ? result.probability.mutable_data_ptr() : nullptr;
  switch (label_index(dtype)) {
    case 0:
      write_labels<uint8_t>(input, axes, result.labels, probability);
      break;
    case 1:
      write_labels<int16_t>(input, axes, result.labels, probability);
      break;
    case 2:
      write_labels<int32_t>(input, axes, result.labels, probability);
      break;
    default:
      write_labels<int64_t>(input, axes, result.labels, probability);
  }
  return {result.labels, result.probability};
}

void ArgmaxCpu::count(const Tensor& input, const Tensor& target, const BilinearAxes& axes,
                      int64_t ignore_index, Tensor& matrix, Tensor& invalid) {
  const LabelMap targets = label_map(target);
  const int64_t classes = matrix.size(0);
  const int64_t unit_pixels = axes.y.output_size * axes.x.output_size / (axes.y.input_size + 1);
  auto* counts = matrix.mutable_data_ptr<int64_t>();
  auto* out_of_range = invalid.mutable_data_ptr<int64_t>();
  ByteCounts bytes;
  run(input, axes, nullptr, [&](int64_t units) {
    return CountSink{PixelCounter(classes, ignore_index, counts, units * unit_pixels), targets,
                     axes.x.output_size, out_of_range, bytes};
  });
  bytes.add_to(counts, classes * classes, torch_parallel_for);
}

}  // namespace fcn_ext
