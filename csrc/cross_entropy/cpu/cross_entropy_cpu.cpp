// Tables, units and threads around the CPU kernels of the cross-entropy, and its operators.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <limits>

#include "cells/cpu/cell_table.h"
#include "common/cpu/thread_scratch.h"
#include "cross_entropy/cpu/kernels.h"
#include "cross_entropy/cross_entropy_operators.h"

namespace fcn_ext {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Cell rows of a unit, about: enough that the row two units share costs little, few enough that
// many threads have work.
constexpr int64_t kUnitRows = 8;
constexpr int64_t kLeastUnits = 4;  // of an image
// What a strip keeps of its node rows, all classes, stays in a core's share of the L3 cache;
// narrower strips would fit the L2, but read scores in pieces of a cache line or two, which costs
// more.
constexpr int64_t kStripBytes = int64_t{1600} << 10;
// Pixels times classes below which a second thread is not woken.
constexpr int64_t kGrain = 65536;

// Class weights as the kernels read them.
struct ClassWeights {
  std::vector<double> weight, label, smoothing;
  WeightTable lse;  // [label + 1]
  bool plain;

  ClassWeights(const CrossEntropy& problem, const MaybeTensor& given, bool in_double)
      : weight(problem.shape.channels, 1.0), lse(problem.shape.channels + 1, in_double) {
    const int64_t classes = problem.shape.channels;
    const double eps = problem.label_smoothing;
    double total = 0;
    for (int64_t c = 0; c < classes; ++c) {
      if (given.has_value()) {
        weight[c] = in_double ? static_cast<const double*>(given->const_data_ptr())[c]
                              : static_cast<const float*>(given->const_data_ptr())[c];
      }
      total += weight[c];
    }
    plain = !given.has_value() && eps == 0;
    for (int64_t c = 0; c < classes; ++c) {
      label.push_back((1 - eps) * weight[c]);
      if (eps != 0) {
        smoothing.push_back(eps / static_cast<double>(classes) * weight[c]);
      }
      lse.set(c + 1, label[c] + eps / static_cast<double>(classes) * total);
    }
  }
};

[[noreturn]] void throw_invalid(const Tensor& target, int64_t index, int64_t classes,
                                int64_t ignore_index) {
  const int64_t height = target.size(1), width = target.size(2);
  const int64_t n = index / (height * width), y = index / width % height, x = index % width;
  const int64_t value = label_at(label_map(target), n, y, x);
  throw std::invalid_argument(join("target must be in [0, ", classes,
                                   ") or ignore_index = ", ignore_index, ", got ", value,
                                   " at batch index ", n, ", row ", y, ", column ", x));
}

// Adds what a unit found for the node row that the next one owns.
template <typename accumulate_t>
void add_edges_of(const CrossEntropyWork& work, int64_t cell_rows) {
  const BilinearShape& shape = work.problem.shape;
  const PlaneStrides& to = work.gradient_strides;
  const int64_t joints = work.chunks - 1, columns = shape.x.input_size;
  torch::stable::parallel_for(0, shape.batch * joints, 1, [&](int64_t begin, int64_t end) {
    for (int64_t joint = begin; joint < end; ++joint) {
      const int64_t image = joint / joints, chunk = joint % joints;
      const int64_t row = (chunk + 1) * cell_rows / work.chunks - 1;
      const auto* edge = static_cast<const accumulate_t*>(work.edge) +
                         (image * work.chunks + chunk) * shape.channels * columns;
      auto* gradient = static_cast<accumulate_t*>(work.gradient) + image * to.batch + row * to.row;
      for (int64_t c = 0; c < shape.channels; ++c) {
        for (int64_t x = 0; x < columns; ++x) {
          gradient[c * to.channel + x * to.column] += edge[c * columns + x];
        }
      }
    }
  });
}

void add_edges(const CrossEntropyWork& work, bool in_double, int64_t cell_rows) {
  if (work.chunks > 1 && in_double) {
    add_edges_of<double>(work, cell_rows);
  } else if (work.chunks > 1) {
    add_edges_of<float>(work, cell_rows);
  }
}

struct Outcome {
  double loss, total_weight;
};

// Results go where they are asked for: `gradient` (empty_gradient), `pixel_loss` (N, H, W).
Outcome cross_entropy_cpu(const CrossEntropy& problem, const Tensor& input, const Tensor& target,
                          const MaybeTensor& weight, CrossEntropyResult result, Tensor* gradient,
                          Tensor* pixel_loss, const Tensor* pixel_grad) {
  const BilinearShape& shape = problem.shape;
  const bool in_double = input.scalar_type() == ScalarType::Double;
  const int64_t bytes = in_double ? sizeof(double) : sizeof(float);
  const int64_t classes = shape.channels, cell_rows = shape.y.input_size + 1;
  const CellTable y(shape.y, in_double, false), x(shape.x, in_double, true);
  const ClassWeights weights(problem, weight, in_double);
  const int64_t chunks =
      std::max(std::min(kLeastUnits, (cell_rows + 1) / 2), cell_rows / kUnitRows);
  const int64_t units = shape.batch * chunks;
  std::vector<double> loss(units);
  std::vector<int64_t> counts(classes);
  int64_t invalid = std::numeric_limits<int64_t>::max();
  const int64_t strip = std::max<int64_t>(1, kStripBytes / (classes * 6 * bytes) / kGroup) * kGroup;
  CrossEntropyWork work{problem,
                        result,
                        input.const_data_ptr(),
                        y.view(),
                        x.view(),
                        chunks,
                        std::min(strip, (shape.x.input_size + kGroup) / kGroup * kGroup),
                        weights.lse.data(),
                        weights.plain,
                        weights.label.data(),
                        weights.smoothing.empty() ? nullptr : weights.smoothing.data(),
                        pixel_grad != nullptr ? pixel_grad->const_data_ptr() : nullptr,
                        loss.data(),
                        counts.data(),
                        &invalid,
                        pixel_loss != nullptr ? pixel_loss->mutable_data_ptr() : nullptr,
                        nullptr,
                        {},
                        nullptr};
  std::vector<char> edge;
  if (gradient != nullptr) {
    work.gradient = gradient->mutable_data_ptr();
    work.gradient_strides = strides_of(*gradient);
    edge.resize(units * classes * shape.x.input_size * bytes);
    work.edge = edge.data();
  }
  const CrossEntropyKernels& kernels = cross_entropy_kernels();
  const int element = element_index(input.scalar_type());
  const int64_t scratch_bytes = kernels.scratch[element](work);
  const int64_t unit_work =
      std::max<int64_t>(1, shape.y.output_size * shape.x.output_size * classes / chunks);
  torch::stable::parallel_for(
      0, units, std::max<int64_t>(1, kGrain / unit_work), [&](int64_t begin, int64_t end) {
        kernels.run[element](work, begin, end, thread_scratch(scratch_bytes));
      });
  if (invalid != std::numeric_limits<int64_t>::max()) {
    throw_invalid(target, invalid, classes, problem.ignore_index);
  }
  if (gradient != nullptr) {
    add_edges(work, in_double, cell_rows);
  }
  Outcome outcome{0, 0};
  for (double part : loss) {
    outcome.loss += part;
  }
  for (int64_t c = 0; c < classes; ++c) {
    outcome.total_weight += weights.weight[c] * static_cast<double>(counts[c]);
  }
  return outcome;
}

Tensor scalar_tensor(const Tensor& like, double value) {
  Tensor tensor = empty_scalar(like, accumulation_type(like));
  if (tensor.scalar_type() == ScalarType::Double) {
    *tensor.mutable_data_ptr<double>() = value;
  } else {
    *tensor.mutable_data_ptr<float>() = static_cast<float>(value);
  }
  return tensor;
}

struct CrossEntropyCpu {
  static CrossEntropySum sum(const Tensor& input, const Tensor& target, const BilinearAxes& axes,
                             const MaybeTensor& weight, int64_t ignore_index,
                             double label_smoothing, bool with_gradient) {
    const CrossEntropy problem =
        check_cross_entropy(input, target, axes, weight, ignore_index, label_smoothing);
    Tensor gradient =
        with_gradient ? empty_gradient(input) : empty_like_in(input, {0}, accumulation_type(input));
    const Outcome outcome =
        cross_entropy_cpu(problem, input, target, weight, CrossEntropyResult::kSum,
                          with_gradient ? &gradient : nullptr, nullptr, nullptr);
    return {scalar_tensor(input, outcome.loss), scalar_tensor(input, outcome.total_weight),
            gradient};
  }

  static Tensor pixels(const Tensor& input, const Tensor& target, const BilinearAxes& axes,
                       const MaybeTensor& weight, int64_t ignore_index, double label_smoothing) {
    const CrossEntropy problem =
        check_cross_entropy(input, target, axes, weight, ignore_index, label_smoothing);
    Tensor loss = empty_like_in(input, {target.size(0), target.size(1), target.size(2)},
                                accumulation_type(input));
    cross_entropy_cpu(problem, input, target, weight, CrossEntropyResult::kPixels, nullptr, &loss,
                      nullptr);
    return loss;
  }

  static Tensor pixels_backward(const Tensor& grad_output, const Tensor& input,
                                const Tensor& target, const BilinearAxes& axes,
                                const MaybeTensor& weight, int64_t ignore_index,
                                double label_smoothing) {
    const CrossEntropy problem =
        check_cross_entropy(input, target, axes, weight, ignore_index, label_smoothing);
    check_pixel_gradient(grad_output, input, target);
    Tensor gradient = empty_gradient(input);
    cross_entropy_cpu(problem, input, target, weight, CrossEntropyResult::kPixelsGradient,
                      &gradient, nullptr, &grad_output);
    return gradient;
  }
};

}  // namespace
}  // namespace fcn_ext

STABLE_TORCH_LIBRARY_IMPL(fcn_ext, CPU, m) {
  fcn_ext::CrossEntropyOperators<fcn_ext::CrossEntropyCpu>::implement(m);
}
