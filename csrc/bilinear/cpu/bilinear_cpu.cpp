// Tables, tiles and threads around the CPU kernels of the resampling engine.
#include <algorithm>
#include <vector>

#include "bilinear/bilinear_operators.h"
#include "bilinear/cpu/kernels.h"
#include "common/cpu/caches.h"
#include "common/cpu/subnormals.h"
#include "common/cpu/thread_scratch.h"
#include "common/cpu/torch_parallel_for.h"
#include "common/cpu/weights.h"

namespace fcn_ext {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Elements of work below which a second thread is not woken.
constexpr int64_t kGrain = 32768;
// Elements of a widened row, so that two of them and the rows they blend into fit the L1 cache.
constexpr int64_t kTileElements = 8192;
// A gradient of this size is written past the caches, which computing it has filled with its input.
constexpr int64_t kStreamedGradient = int64_t{4} << 20;
// A result that fits the last-level cache stays there for its next reader. Not more than this,
// since the processes of a machine share that cache.
constexpr int64_t kMostKept = int64_t{32} << 20;

class AxisTable {
 public:
  AxisTable(const BilinearAxis& axis, bool in_double)
      : first_(axis.input_size + 2),
        node_(axis.output_size),
        lower_(axis.output_size, in_double),
        upper_(axis.output_size, in_double) {
    for (int64_t node = -1; node <= axis.input_size; ++node) {
      first_[node + 1] = first_output(axis, node);
    }
    for (int64_t o = 0; o < axis.output_size; ++o) {
      const BilinearTap tap = bilinear_tap(axis, o);
      node_[o] = tap.node;
      lower_.set(o, lower_weight<double>(axis, tap));
      upper_.set(o, upper_weight<double>(axis, tap));
    }
    const int64_t stride = whole_stride(axis);
    const BilinearTap first = bilinear_tap(unclamped(axis), 0);
    const bool unrolled = stride == 2 || stride == 4 || stride == 8 || stride == 16 || stride == 32;
    // If phase 0 lies on a node, the neighbor has weight zero and must not be read.
    if (unrolled && !may_meet_node(axis) && first.node >= -1) {
      stride_ = stride;
      lead_ = (first.node + 1) * stride + phase_of(axis, first.numerator);
      phase_lower_ = WeightTable(stride, in_double);
      phase_upper_ = WeightTable(stride, in_double);
      for (int64_t p = 0; p < stride; ++p) {
        const BilinearTap tap = phase_tap(axis, phase_zero(axis), p);
        phase_lower_.set(p, lower_weight<double>(axis, tap));
        phase_upper_.set(p, upper_weight<double>(axis, tap));
      }
    }
  }

  BilinearAxisTable view() const {
    return {first_.data(), node_.data(), lower_.data(),       upper_.data(),
            stride_,       lead_,        phase_lower_.data(), phase_upper_.data()};
  }

 private:
  std::vector<int64_t> first_, node_;
  WeightTable lower_, upper_, phase_lower_, phase_upper_;
  int64_t stride_ = 0, lead_ = 0;
};

// Keeps a call's tables alive while plain pointers into them are used.
struct Work {
  AxisTable y, x;
  BilinearWork plain;
  int64_t planes;

  // `columns`: of the map that is tiled; each is as wide as `scale` columns of the output.
  Work(const Tensor& map, const BilinearAxis& y_axis, const BilinearAxis& x_axis,
       bool channels_last, int64_t columns, int64_t scale)
      : y(y_axis, map.scalar_type() == ScalarType::Double),
        x(x_axis, map.scalar_type() == ScalarType::Double) {
    const int64_t batch = map.size(0), channels = map.size(1);
    const int64_t inner = channels_last ? channels : 1;
    planes = channels_last ? batch : batch * channels;
    const int64_t widest = std::max<int64_t>(64, kTileElements / std::max<int64_t>(inner, 1));
    const int64_t tile_columns = std::min(columns, std::max<int64_t>(8, widest / scale));
    plain = {{batch, channels, y_axis, x_axis},          y.view(), x.view(), inner, tile_columns,
             (columns + tile_columns - 1) / tile_columns};
  }
};

int64_t bytes_of(const Tensor& result) {
  return result.numel() * element_bytes(result.scalar_type());
}

bool leaves_caches(const Tensor& result) {
  return bytes_of(result) > std::min(last_level_cache(), kMostKept);
}

template <typename Kernels, typename Args>
void run(const Kernels& kernels, int element, const Args& args, int64_t units, int64_t elements) {
  if (units == 0 || elements == 0) {
    return;
  }
  const int64_t grain = std::max<int64_t>(1, kGrain / std::max<int64_t>(1, elements / units));
  const int64_t scratch_bytes = kernels.scratch(args);
  parallel_for(units, grain, [&](int64_t begin, int64_t end) {
    const HalvesReadWhole reads(element == element_index(ScalarType::Half));
    kernels.run[element](args, begin, end, thread_scratch(scratch_bytes));
  });
}

}  // namespace

Tensor BilinearCpu::forward(const Tensor& input, const BilinearAxes& axes, const SkipWindow* skip) {
  const auto& [y, x] = axes;
  const bool channels_last = is_channels_last(input);
  Tensor output = empty_map(input, y.output_size, x.output_size, channels_last);
  if (output.numel() == 0) {
    return output;
  }
  const Work work(input, y, x, channels_last, x.output_size, 1);
  const int element = element_index(input.scalar_type());
  BilinearForward args{work.plain, input.const_data_ptr(),    strides_of(input),    nullptr,
                       {},         output.mutable_data_ptr(), leaves_caches(output)};
  if (skip != nullptr) {
    args.skip_strides = strides_of(skip->skip);
    const int64_t offset =
        skip->offset_y * args.skip_strides.row + skip->offset_x * args.skip_strides.column;
    args.skip =
        static_cast<const char*>(skip->skip.const_data_ptr()) + offset * kElementBytes[element];
  }
  run(bilinear_forward_kernels(), element, args,
      work.planes * work.plain.tiles * (y.input_size + 1), output.numel());
  return output;
}

Tensor BilinearCpu::backward(const Tensor& grad_output, const BilinearAxes& axes) {
  const auto& [y, x] = axes;
  const bool channels_last = is_channels_last(grad_output);
  Tensor grad_input = empty_map(grad_output, y.input_size, x.input_size, channels_last);
  if (grad_input.numel() == 0) {
    return grad_input;
  }
  const Work work(grad_output, y, x, channels_last, x.input_size,
                  std::max<int64_t>(1, x.output_size / x.input_size));
  const BilinearBackward args{work.plain, grad_output.const_data_ptr(), strides_of(grad_output),
                              grad_input.mutable_data_ptr(),
                              bytes_of(grad_input) >= kStreamedGradient};
  run(bilinear_backward_kernels(), element_index(grad_output.scalar_type()), args,
      work.planes * work.plain.tiles * y.input_size,
      std::max(grad_output.numel(), grad_input.numel()));
  return grad_input;
}

}  // namespace fcn_ext
