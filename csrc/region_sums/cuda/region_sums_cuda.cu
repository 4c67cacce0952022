// The tensors around the CUDA kernels of region_sums.
#include "common/cuda/tensors.h"
#include "region_sums/cuda/kernels.cuh"
#include "region_sums/region_sums_operators.h"

namespace fcn_ext {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

RegionSumsResult RegionSumsCuda::forward(const Tensor& input, const Tensor& target,
                                         const BilinearAxes& axes, const MaybeTensor& weight,
                                         int64_t ignore_index, bool squared, bool with_loss) {
  const RegionSums problem = check_region_sums(input, target, axes, weight, ignore_index);
  const int64_t images = input.size(0), classes = input.size(1);
  Tensor sums = empty_like_in(input, {squared ? 4 : 3, images, classes}, ScalarType::Double);
  Tensor losses = empty_like_in(input, {with_loss ? 2 : 0, images}, ScalarType::Double);
  on_device_of(input, [&](cudaStream_t stream) {
    dispatch_floating(input.scalar_type(), [&](auto zero) {
      using scalar_t = decltype(zero);
      Tensor workspace = workspace_of(input, region_sums_workspace<scalar_t>(problem, squared));
      launch_region_sums<scalar_t>(
          problem, squared, data_of<scalar_t>(input), data_of<accumulate_of<scalar_t>>(weight),
          result_of<double>(sums), with_loss ? result_of<double>(losses) : nullptr,
          result_of<unsigned char>(workspace), stream);
    });
  });
  return {sums, losses};
}

Tensor RegionSumsCuda::backward(const Tensor& grad_sums, const Tensor& grad_losses,
                                const Tensor& input, const Tensor& target, const BilinearAxes& axes,
                                const MaybeTensor& weight, int64_t ignore_index) {
  const RegionSums problem = check_region_sums(input, target, axes, weight, ignore_index);
  const bool squared = grad_sums.size(0) == 4;
  Tensor gradient = empty_gradient(input);
  on_device_of(input, [&](cudaStream_t stream) {
    dispatch_floating(input.scalar_type(), [&](auto zero) {
      using scalar_t = decltype(zero);
      using accumulate_t = accumulate_of<scalar_t>;
      Tensor workspace =
          workspace_of(input, region_sums_backward_workspace<scalar_t>(problem, squared));
      launch_region_sums_backward<scalar_t>(
          problem, squared, data_of<accumulate_t>(grad_sums),
          grad_losses.size(0) != 0 ? data_of<accumulate_t>(grad_losses) : nullptr,
          data_of<scalar_t>(input), data_of<accumulate_t>(weight),
          result_of<accumulate_t>(gradient), strides_of(gradient),
          result_of<unsigned char>(workspace), stream);
    });
  });
  return gradient;
}

}  // namespace fcn_ext
