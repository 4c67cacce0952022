// Tables, units and threads around the CPU kernels of the sigmoid sums.
#include <algorithm>
#include <type_traits>
#include <vector>

#include "cells/cpu/cell_table.h"
#include "common/cpu/subnormals.h"
#include "common/cpu/thread_scratch.h"
#include "common/cpu/torch_parallel_for.h"
#include "common/refusal.h"
#include "sigmoid_sums/cpu/kernels.h"
#include "sigmoid_sums/sigmoid_sums_operators.h"

namespace fcn_ext {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Pixels below which a second thread is not woken.
constexpr int64_t kGrain = 16384;
// Masks are divided into so many chunks that threads get nearly equal shares. Chunks are not small:
// for a gradient, the threads on both sides of a seam read its cell rows.
constexpr int64_t kUnits = 64, kChunkRows = 8;
constexpr int64_t kRegister = 16;  // columns of the widest register

// Keeps a call's tables alive while plain pointers into them are used.
struct Work {
  CellTable y, x;
  std::vector<int32_t> node;
  WeightTable lower, upper, spread_lower, spread_upper;
  int32_t invalid = 0;
  SigmoidSumsWork plain{};
  int64_t units;

  Work(const SigmoidSums& problem, const Tensor& input)
      : y(problem.shape.y, input.scalar_type() == ScalarType::Double, false),
        x(problem.shape.x, input.scalar_type() == ScalarType::Double, false),
        node((problem.shape.x.output_size + kRegister - 1) / kRegister * kRegister),
        lower(node.size(), input.scalar_type() == ScalarType::Double),
        upper(node.size(), input.scalar_type() == ScalarType::Double) {
    const CellAxis& columns = x.view();
    for (int64_t cell = 0; cell <= columns.nodes; ++cell) {
      for (int64_t o = columns.begin[cell]; o < columns.begin[cell + 1]; ++o) {
        node[o] = static_cast<int32_t>(cell);
        lower.set(o, (columns.whole - columns.upper_part[o]) / columns.whole);
        upper.set(o, columns.upper_part[o] / columns.whole);
      }
    }
    const int64_t masks = problem.shape.batch * problem.shape.channels;
    const int64_t chunks =
        std::max<int64_t>(1, std::min((kUnits + masks - 1) / std::max<int64_t>(1, masks),
                                      problem.shape.y.input_size / kChunkRows));
    units = masks * chunks;
    plain.problem = problem;
    plain.input = score_map(input);
    plain.y = y.view();
    plain.x = x.view();
    plain.node = node.data();
    plain.lower = lower.data();
    plain.upper = upper.data();
    plain.pitch = static_cast<int64_t>(node.size());
    plain.chunks = chunks;
    plain.invalid = &invalid;
    find_whole_cells(whole_stride(problem.shape.x));
    if (plain.stride == 0) {
      spread_cells(input.scalar_type() == ScalarType::Double);
    }
  }

  void spread_cells(bool is_double) {
    const CellAxis& columns = x.view();
    int64_t most = 2;
    for (int64_t cell = 0; cell <= columns.nodes; ++cell) {
      most = std::max(most, columns.begin[cell + 1] - columns.begin[cell]);
    }
    if (most > kMostSpread) {
      return;
    }
    int64_t spread = 2;
    while (spread < most) {
      spread *= 2;
    }
    spread_lower = WeightTable((columns.nodes + 1) * spread, is_double);
    spread_upper = WeightTable((columns.nodes + 1) * spread, is_double);
    for (int64_t cell = 0; cell <= columns.nodes; ++cell) {
      for (int64_t o = columns.begin[cell]; o < columns.begin[cell + 1]; ++o) {
        const int64_t at = cell * spread + o - columns.begin[cell];
        spread_lower.set(at, (columns.whole - columns.upper_part[o]) / columns.whole);
        spread_upper.set(at, columns.upper_part[o] / columns.whole);
      }
    }
    plain.spread = spread;
    plain.spread_lower = spread_lower.data();
    plain.spread_upper = spread_upper.data();
  }

  void find_whole_cells(int64_t stride) {
    if (stride != 2 && stride != 4 && stride != 8 && stride != 16 && stride != 32) {
      return;
    }
    const int64_t cells = plain.x.nodes + 1;
    const auto whole = [&](int64_t cell) {
      return plain.x.begin[cell + 1] - plain.x.begin[cell] == stride;
    };
    plain.stride = stride;
    while (plain.first_whole < cells && !whole(plain.first_whole)) {
      ++plain.first_whole;
    }
    plain.end_whole = plain.first_whole;
    while (plain.end_whole < cells && whole(plain.end_whole)) {
      ++plain.end_whole;
    }
  }

  void run(const Tensor& input) {
    const SigmoidSumsKernels& kernels = sigmoid_sums_kernels();
    const int type = accumulation_index(input.scalar_type());
    const int64_t bytes = kernels.scratch[type](plain);
    const int64_t pixels = plain.y.outputs * plain.x.outputs / plain.chunks;
    parallel_for(units, std::max<int64_t>(1, kGrain / std::max<int64_t>(1, pixels)),
                 [&](int64_t begin, int64_t end) {
                   constexpr int kHalves = kFirstSoftMask + 2;
                   const HalvesReadWhole reads(input.scalar_type() == ScalarType::Half ||
                                               plain.problem.target.type == kHalves);
                   kernels.run[type](plain, begin, end, thread_scratch(bytes));
                 });
  }
};

template <typename T>
T element(const MaskMap& map, int64_t at) {
  return static_cast<const T*>(map.data)[at];
}

// Calls body(the target at element `at`): an int64_t or a floating-point number.
template <typename Body>
auto with_target(const MaskMap& map, int64_t at, const Body& body) {
  switch (map.type) {
    case 0:
      return body(int64_t{element<uint8_t>(map, at)});
    case 1:
      return body(int64_t{element<int16_t>(map, at)});
    case 2:
      return body(int64_t{element<int32_t>(map, at)});
    case 3:
      return body(element<int64_t>(map, at));
    case 4:
      return body(element<float>(map, at));
    case 5:
      return body(element<double>(map, at));
    case 6:
      return body(static_cast<float>(element<torch::headeronly::Half>(map, at)));
    default:
      return body(static_cast<float>(element<torch::headeronly::BFloat16>(map, at)));
  }
}

[[noreturn]] void throw_invalid(const SigmoidSums& problem) {
  const MaskMap& map = problem.target;
  for (int64_t n = 0; n < problem.shape.batch; ++n) {
    for (int64_t q = 0; q < problem.shape.channels; ++q) {
      for (int64_t row = 0; row < problem.shape.y.output_size; ++row) {
        for (int64_t column = 0; column < problem.shape.x.output_size; ++column) {
          const int64_t at = n * map.strides.batch + q * map.strides.channel +
                             row * map.strides.row + column * map.strides.column;
          with_target(map, at, [&](auto target) {
            const auto check = [&](bool right, const auto&... rule) {
              FCN_EXT_CHECK(right, "target must be ", rule..., ", got ", target, " at batch index ",
                            n, ", mask ", q, ", row ", row, ", column ", column);
            };
            if constexpr (std::is_integral_v<decltype(target)>) {
              check(target == 0 || target == 1 || target == problem.ignore_index,
                    "0, 1 or ignore_index = ", problem.ignore_index);
            } else {
              check(target >= 0 && target <= 1, "in [0, 1]");
            }
          });
        }
      }
    }
  }
  throw Refusal("target was changed while it was read");
}

template <typename T>
void add_units(const Work& work, const std::vector<double>& parts, T* sums) {
  const int64_t chunks = work.plain.chunks;
  for (int64_t mask = 0; mask < work.units / chunks; ++mask) {
    for (int kind = 0; kind < kSigmoidSums; ++kind) {
      double sum = 0;
      for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        sum += parts[(mask * chunks + chunk) * kSigmoidSums + kind];
      }
      sums[mask * kSigmoidSums + kind] = static_cast<T>(sum);
    }
  }
}

template <typename T>
void weigh_sums(const Tensor& sums, const Tensor& weight, bool focal, Tensor& loss) {
  const auto* from = static_cast<const T*>(sums.const_data_ptr());
  const auto* factor = static_cast<const T*>(weight.const_data_ptr());
  auto* to = static_cast<T*>(loss.mutable_data_ptr());
  for (int64_t mask = 0; mask < loss.numel(); ++mask) {
    to[mask] =
        weighed(from + mask * kSigmoidSums, factor + mask * kSigmoidSums % weight.numel(), focal);
  }
}

}  // namespace

void SigmoidSumsCpu::compute(const SigmoidSums& problem, const Tensor& input, const Tensor* weight,
                             Tensor* sums, Tensor* gradient) {
  Work work(problem, input);
  if (work.units == 0) {
    return;
  }
  std::vector<double> parts(sums != nullptr ? work.units * kSigmoidSums : 0);
  work.plain.sums = sums != nullptr ? parts.data() : nullptr;
  if (gradient != nullptr) {
    work.plain.gradient = gradient->mutable_data_ptr();
    work.plain.gradient_strides = strides_of(*gradient);
    work.plain.weight = weight->const_data_ptr();
    work.plain.weight_masks = weight->numel() / kSigmoidSums;
  }
  work.run(input);
  if (work.invalid != 0) {
    throw_invalid(problem);
  }
  if (sums == nullptr) {
    return;
  }
  if (sums->scalar_type() == ScalarType::Double) {
    add_units(work, parts, static_cast<double*>(sums->mutable_data_ptr()));
  } else {
    add_units(work, parts, static_cast<float*>(sums->mutable_data_ptr()));
  }
}

void SigmoidSumsCpu::weigh(const SigmoidSums& problem, const Tensor& sums, const Tensor& weight,
                           Tensor& loss) {
  if (loss.scalar_type() == ScalarType::Double) {
    weigh_sums<double>(sums, weight, problem.focal, loss);
  } else {
    weigh_sums<float>(sums, weight, problem.focal, loss);
  }
}

}  // namespace fcn_ext
