// Tables, units and threads around the CPU kernels of region_sums.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/cpu/subnormals.h"
#include "common/cpu/thread_scratch.h"
#include "common/cpu/torch_parallel_for.h"
#include "region_sums/cpu/kernels.h"
#include "region_sums/region_sums_operators.h"
#include "softmax/cpu/plan.h"

namespace fcn_ext {
namespace {

using namespace region_sums;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Pixels times classes below which a second thread is not woken.
constexpr int64_t kGrain = 65536;

struct ClassWeights {
  std::vector<double> weight;
  WeightTable table;  // [label + 1], zero first
  bool finite = true;

  ClassWeights(const MaybeTensor& given, int64_t classes, bool in_double)
      : weight(classes, 1.0), table(classes + 1, in_double) {
    for (int64_t c = 0; c < classes; ++c) {
      if (given.has_value()) {
        weight[c] = in_double ? given->const_data_ptr<double>()[c]
                              : static_cast<double>(given->const_data_ptr<float>()[c]);
      }
      finite = finite && std::isfinite(weight[c]);
      table.set(c + 1, weight[c]);
    }
  }
};

void run(const RegionSumsWork& work, const SoftmaxPlan& plan, const Tensor& input,
         const Tensor& target) {
  const RegionSumsKernels& kernels = region_sums_kernels();
  const int type = accumulation_index(input.scalar_type());
  const int64_t scratch_bytes = kernels.scratch[type](work);
  parallel_for(plan.units(), std::max<int64_t>(1, kGrain / plan.unit_work()),
               [&](int64_t begin, int64_t end) {
                 const HalvesReadWhole reads(input.scalar_type() == ScalarType::Half);
                 kernels.run[type](work, begin, end, thread_scratch(scratch_bytes));
               });
  if (*work.invalid != std::numeric_limits<int64_t>::max()) {
    throw_invalid_label(target, *work.invalid, work.problem.shape.channels,
                        work.problem.ignore_index);
  }
}

}  // namespace

RegionSumsResult RegionSumsCpu::forward(const Tensor& input, const Tensor& target,
                                        const BilinearAxes& axes, const MaybeTensor& weight,
                                        int64_t ignore_index, bool squared, bool with_loss) {
  const RegionSums problem = check_region_sums(input, target, axes, weight, ignore_index);
  const int64_t images = input.size(0), classes = input.size(1), rows = squared ? 4 : 3;
  const ClassWeights weights(weight, classes, input.scalar_type() == ScalarType::Double);
  SoftmaxPlan plan(input, axes, nullptr);
  plan.work.finite = !with_loss || weights.finite;
  std::vector<double> sums(plan.units() * 3 * classes), loss(plan.units());
  std::vector<int64_t> counts(images * classes);
  int64_t invalid = std::numeric_limits<int64_t>::max();
  const RegionSumsWork work{
      plan.work, problem,     squared,     with_loss,     weights.table.data(),
      &invalid,  sums.data(), loss.data(), counts.data(), nullptr,
      nullptr,   nullptr,     nullptr};
  run(work, plan, input, target);

  Tensor result = empty_like_in(input, {rows, images, classes}, ScalarType::Double);
  Tensor losses = empty_like_in(input, {with_loss ? 2 : 0, images}, ScalarType::Double);
  double* const to = result.mutable_data_ptr<double>();
  constexpr int kOfUnit[] = {kProbability, kIntersection, kSquared};
  for (int64_t i = 0; i < rows * images * classes; ++i) {
    to[i] = 0;
  }
  for (int64_t unit = 0; unit < plan.units(); ++unit) {
    const int64_t image = unit / plan.work.chunks;
    for (int64_t row = 0; row < rows - 1; ++row) {
      const double* from = sums.data() + (unit * 3 + row) * classes;
      double* sum = to + (kOfUnit[row] * images + image) * classes;
      for (int64_t c = 0; c < classes; ++c) {
        sum[c] += from[c];
      }
    }
  }
  for (int64_t i = 0; i < images * classes; ++i) {
    to[kCount * images * classes + i] = static_cast<double>(counts[i]);
  }
  for (int64_t image = 0; with_loss && image < images; ++image) {
    double found = 0, total = 0;
    for (int64_t chunk = 0; chunk < plan.work.chunks; ++chunk) {
      found += loss[image * plan.work.chunks + chunk];
    }
    // A class that no pixel has adds nothing, not even zero times an infinite weight.
    for (int64_t c = 0; c < classes; ++c) {
      const int64_t count = counts[image * classes + c];
      total += count != 0 ? weights.weight[c] * static_cast<double>(count) : 0.0;
    }
    losses.mutable_data_ptr<double>()[kLoss * images + image] = found;
    losses.mutable_data_ptr<double>()[kTotalWeight * images + image] = total;
  }
  return {result, losses};
}

Tensor RegionSumsCpu::backward(const Tensor& grad_sums, const Tensor& grad_losses,
                               const Tensor& input, const Tensor& target, const BilinearAxes& axes,
                               const MaybeTensor& weight, int64_t ignore_index) {
  const RegionSums problem = check_region_sums(input, target, axes, weight, ignore_index);
  const int64_t images = input.size(0), classes = input.size(1);
  const bool in_double = input.scalar_type() == ScalarType::Double;
  const bool squared = grad_sums.size(0) == 4, with_loss = grad_losses.size(0) != 0;
  const ClassWeights weights(weight, classes, in_double);
  Tensor gradient = empty_gradient(input);
  SoftmaxPlan plan(input, axes, &gradient);
  plan.work.finite = !with_loss || weights.finite;
  int64_t invalid = std::numeric_limits<int64_t>::max();
  const auto row = [&](int64_t number) {
    return static_cast<const char*>(grad_sums.const_data_ptr()) +
           number * images * classes * (in_double ? sizeof(double) : sizeof(float));
  };
  WeightTable doubled(squared ? images * classes : 0, in_double);
  for (int64_t i = 0; squared && i < images * classes; ++i) {
    doubled.set(i, 2 * (in_double ? reinterpret_cast<const double*>(row(kSquared))[i]
                                  : reinterpret_cast<const float*>(row(kSquared))[i]));
  }
  const RegionSumsWork work{plan.work,
                            problem,
                            squared,
                            with_loss,
                            weights.table.data(),
                            &invalid,
                            nullptr,
                            nullptr,
                            nullptr,
                            row(kProbability),
                            row(kIntersection),
                            doubled.data(),
                            grad_losses.const_data_ptr()};
  run(work, plan, input, target);
  plan.add_edges();
  return gradient;
}

}  // namespace fcn_ext
