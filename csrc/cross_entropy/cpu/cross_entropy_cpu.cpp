// Tables, units and threads around the CPU kernels of the cross-entropy.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/cpu/subnormals.h"
#include "common/cpu/thread_scratch.h"
#include "common/cpu/torch_parallel_for.h"
#include "cross_entropy/cpu/kernels.h"
#include "cross_entropy/cross_entropy_operators.h"
#include "softmax/cpu/plan.h"

namespace fcn_ext {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Pixels times classes below which a second thread is not woken.
constexpr int64_t kGrain = 65536;

// Class weights as the kernels read them. The definition sums over pixels, so a class that no pixel
// has must add nothing: not even zero times its weight, which may be infinite or NaN.
struct ClassWeights {
  std::vector<double> weight, label, smoothing;
  WeightTable lse;  // [label + 1]
  bool plain;
  bool finite = true;

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
      finite = finite && std::isfinite(weight[c]);
    }
    const double smoothing_total = eps != 0 ? eps / static_cast<double>(classes) * total : 0;
    plain = !given.has_value() && eps == 0;
    for (int64_t c = 0; c < classes; ++c) {
      label.push_back((1 - eps) * weight[c]);
      if (eps != 0) {
        smoothing.push_back(eps / static_cast<double>(classes) * weight[c]);
      }
      lse.set(c + 1, label[c] + smoothing_total);
    }
  }
};

struct Outcome {
  double loss, total_weight;
};

double sum_of_pixel_losses(const CrossEntropy& problem, const Tensor& input, const Tensor& target,
                           const MaybeTensor& weight);

// Fills what is not null: `gradient` (empty_gradient), `pixel_loss` (N, H, W), `hits` (empty_hits).
Outcome cross_entropy_cpu(const CrossEntropy& problem, const Tensor& input, const Tensor& target,
                          const MaybeTensor& weight, CrossEntropyResult result, Tensor* gradient,
                          Tensor* pixel_loss, const Tensor* pixel_grad, Tensor* hits) {
  const bool in_double = input.scalar_type() == ScalarType::Double;
  const int64_t classes = problem.shape.channels;
  const ClassWeights weights(problem, weight, in_double);
  SoftmaxPlan plan(input, {problem.shape.y, problem.shape.x}, gradient);
  plan.work.unweighted = weights.plain && pixel_grad == nullptr;
  plan.work.finite = weights.finite;
  plan.work.ln_sums = result == CrossEntropyResult::kPixels;
  std::vector<double> loss(plan.units());
  std::vector<int64_t> counts(classes);
  int64_t invalid = std::numeric_limits<int64_t>::max();
  auto* const pixels = hits != nullptr ? hits->mutable_data_ptr<int64_t>() : nullptr;
  if (pixels != nullptr) {
    pixels[0] = pixels[1] = 0;
  }
  const CrossEntropyWork work{plan.work,
                              problem,
                              result,
                              weights.lse.data(),
                              weights.plain,
                              weights.label.data(),
                              weights.smoothing.empty() ? nullptr : weights.smoothing.data(),
                              pixel_grad != nullptr ? pixel_grad->const_data_ptr() : nullptr,
                              loss.data(),
                              counts.data(),
                              &invalid,
                              pixel_loss != nullptr ? pixel_loss->mutable_data_ptr() : nullptr,
                              pixels};
  const CrossEntropyKernels& kernels = cross_entropy_kernels();
  const int type = accumulation_index(input.scalar_type());
  const int64_t scratch_bytes = kernels.scratch[type](work);
  parallel_for(plan.units(), std::max<int64_t>(1, kGrain / plan.unit_work()),
               [&](int64_t begin, int64_t end) {
                 const HalvesReadWhole reads(input.scalar_type() == ScalarType::Half);
                 kernels.run[type](work, begin, end, thread_scratch(scratch_bytes));
               });
  if (invalid != std::numeric_limits<int64_t>::max()) {
    throw_invalid_label(target, invalid, classes, problem.ignore_index);
  }
  plan.add_edges();
  Outcome outcome{0, 0};
  for (double part : loss) {
    outcome.loss += part;
  }
  for (int64_t c = 0; c < classes; ++c) {
    if (counts[c] != 0) {
      outcome.total_weight += weights.weight[c] * static_cast<double>(counts[c]);
    }
  }
  // Log-sums and scores are summed separately, with terms of either sign: infinities may cancel.
  if (result == CrossEntropyResult::kSum && !weights.finite && std::isnan(outcome.loss)) {
    outcome.loss = sum_of_pixel_losses(problem, input, target, weight);
  }
  return outcome;
}

double sum_of_pixel_losses(const CrossEntropy& problem, const Tensor& input, const Tensor& target,
                           const MaybeTensor& weight) {
  Tensor losses = empty_like_in(input, {target.size(0), target.size(1), target.size(2)},
                                accumulation_type(input));
  cross_entropy_cpu(problem, input, target, weight, CrossEntropyResult::kPixels, nullptr, &losses,
                    nullptr, nullptr);
  const int64_t pixels = losses.numel();
  const auto sum = [&](const auto* from) {
    double total = 0;
    for (int64_t i = 0; i < pixels; ++i) {
      total += static_cast<double>(from[i]);
    }
    return total;
  };
  return losses.scalar_type() == ScalarType::Double ? sum(losses.const_data_ptr<double>())
                                                    : sum(losses.const_data_ptr<float>());
}

template <typename T>
Tensor scalar_tensor(const Tensor& like, T value) {
  Tensor tensor = empty_scalar(like, accumulation_type(like));
  *tensor.mutable_data_ptr<T>() = value;
  return tensor;
}

template <typename T>
void scale(Tensor& gradient, T factor) {
  if (factor == 1) {
    return;
  }
  T* const elements = gradient.mutable_data_ptr<T>();
  parallel_for(gradient.numel(), kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      elements[i] *= factor;
    }
  });
}

// The results in the accumulation type T, with the sum of the losses or, divided in that type,
// their mean. The mean over nothing has gradient zero.
template <typename T>
CrossEntropySum reduced(const Tensor& input, const Outcome& outcome, bool mean, bool with_gradient,
                        Tensor& gradient) {
  const T sum = static_cast<T>(outcome.loss), total = static_cast<T>(outcome.total_weight);
  if (mean && with_gradient) {
    scale(gradient, total == 0 ? T(0) : 1 / total);
  }
  return {scalar_tensor(input, mean ? sum / total : sum), scalar_tensor(input, total), gradient};
}

}  // namespace

CrossEntropySum CrossEntropyCpu::sum(const Tensor& input, const Tensor& target,
                                     const BilinearAxes& axes, const MaybeTensor& weight,
                                     int64_t ignore_index, double label_smoothing, bool mean,
                                     bool with_gradient, Tensor* hits) {
  const CrossEntropy problem =
      check_cross_entropy(input, target, axes, weight, ignore_index, label_smoothing);
  Tensor gradient =
      with_gradient ? empty_gradient(input) : empty_like_in(input, {0}, accumulation_type(input));
  const Outcome outcome =
      cross_entropy_cpu(problem, input, target, weight, CrossEntropyResult::kSum,
                        with_gradient ? &gradient : nullptr, nullptr, nullptr, hits);
  return accumulation_type(input) == ScalarType::Double
             ? reduced<double>(input, outcome, mean, with_gradient, gradient)
             : reduced<float>(input, outcome, mean, with_gradient, gradient);
}

void CrossEntropyCpu::scale_gradient(Tensor& gradient, const Tensor& factor) {
  if (gradient.scalar_type() == ScalarType::Double) {
    scale(gradient, *factor.const_data_ptr<double>());
  } else {
    scale(gradient, *factor.const_data_ptr<float>());
  }
}

Tensor CrossEntropyCpu::pixels(const Tensor& input, const Tensor& target, const BilinearAxes& axes,
                               const MaybeTensor& weight, int64_t ignore_index,
                               double label_smoothing, Tensor* hits) {
  const CrossEntropy problem =
      check_cross_entropy(input, target, axes, weight, ignore_index, label_smoothing);
  Tensor loss = empty_like_in(input, {target.size(0), target.size(1), target.size(2)},
                              accumulation_type(input));
  cross_entropy_cpu(problem, input, target, weight, CrossEntropyResult::kPixels, nullptr, &loss,
                    nullptr, hits);
  return loss;
}

Tensor CrossEntropyCpu::pixels_backward(const Tensor& grad_output, const Tensor& input,
                                        const Tensor& target, const BilinearAxes& axes,
                                        const MaybeTensor& weight, int64_t ignore_index,
                                        double label_smoothing) {
  const CrossEntropy problem =
      check_cross_entropy(input, target, axes, weight, ignore_index, label_smoothing);
  Tensor gradient = empty_gradient(input);
  cross_entropy_cpu(problem, input, target, weight, CrossEntropyResult::kPixelsGradient, &gradient,
                    nullptr, &grad_output, nullptr);
  return gradient;
}

}  // namespace fcn_ext
