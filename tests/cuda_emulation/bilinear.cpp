// The resampling engine's CUDA launchers, callable from Python.
#include "bilinear/bilinear_kernels.cuh"

namespace {

using namespace fcn_ext;

// What Python hands over as eleven int64.
struct Problem {
  int64_t batch, channels, input_height, input_width, output_height, output_width;
  int64_t map;  // 0: upsample, 1: interpolate, 2: interpolate with align_corners
  int64_t stride, kernel_size, offset_y, offset_x;

  BilinearAxis axis(int64_t input_size, int64_t output_size, int64_t offset) const {
    return map == 0 ? upsample_axis(input_size, output_size, stride, kernel_size, offset)
                    : interpolate_axis(input_size, output_size, map == 2);
  }
  BilinearShape shape() const {
    return {batch, channels, axis(input_height, output_height, offset_y),
            axis(input_width, output_width, offset_x)};
  }
};

// Calls run(pointer) with a null pointer to the element type: float, double, half, bfloat16.
template <typename Run>
void dispatch(int64_t dtype, Run run) {
  switch (dtype) {
    case 0:
      return run(static_cast<float*>(nullptr));
    case 1:
      return run(static_cast<double*>(nullptr));
    case 2:
      return run(static_cast<c10::Half*>(nullptr));
    default:
      return run(static_cast<c10::BFloat16*>(nullptr));
  }
}

}  // namespace

extern "C" int bilinear_forward(int64_t dtype, const Problem* problem, const void* input,
                                const PlaneStrides* input_strides, const void* skip,
                                const PlaneStrides* skip_strides, void* output,
                                int64_t channels_last) {
  return cuda_emulation::guarded([=] {
    dispatch(dtype, [=](auto* type) {
      using scalar_t = std::remove_pointer_t<decltype(type)>;
      launch_bilinear_forward(problem->shape(), static_cast<const scalar_t*>(input), *input_strides,
                              static_cast<const scalar_t*>(skip), *skip_strides,
                              static_cast<scalar_t*>(output), channels_last != 0, nullptr);
    });
  });
}

extern "C" int bilinear_backward(int64_t dtype, const Problem* problem, const void* grad_output,
                                 const PlaneStrides* grad_output_strides, void* grad_input,
                                 int64_t channels_last) {
  return cuda_emulation::guarded([=] {
    dispatch(dtype, [=](auto* type) {
      using scalar_t = std::remove_pointer_t<decltype(type)>;
      launch_bilinear_backward(problem->shape(), static_cast<const scalar_t*>(grad_output),
                               *grad_output_strides, static_cast<scalar_t*>(grad_input),
                               channels_last != 0, nullptr);
    });
  });
}

// How many elements more a backward block can hold than it has to, at least, over all its tiles:
// spare[0] in its threads, spare[1] in its shared row. Rows are made up of whole vectors.
extern "C" int bilinear_backward_spare(int64_t dtype, const Problem* problem, int64_t* spare) {
  return cuda_emulation::guarded([=] {
    dispatch(dtype, [=](auto* type) {
      using scalar_t = std::remove_pointer_t<decltype(type)>;
      constexpr int kVector = 16 / sizeof(scalar_t);
      const BilinearAxis x = problem->shape().x;
      const auto tiles = bilinear_backward_tiles<scalar_t>(problem->shape(), false, kVector);
      spare[0] = spare[1] = INT64_MAX;
      for (int64_t first = 0; first < x.input_size && tiles.pieces == 1;
           first += tiles.tile_inputs) {
        const int64_t begin = first_output(x, first - 1);
        const int64_t columns =
            first_output(x, smaller(first + tiles.tile_inputs, x.input_size)) - begin;
        const int64_t held = int64_t{tiles.group_threads} * kBackwardElements<scalar_t>;
        spare[0] = smaller(spare[0], held - begin % kVector - columns);
        spare[1] = smaller(spare[1], tiles.piece_columns - columns);
      }
    });
  });
}
