// Entry points of bilinear_cases.py.
#include "arguments.h"
#include "bilinear/cuda/kernels.cuh"

using namespace fcn_ext;

extern "C" int bilinear_forward(int64_t dtype, const Geometry* geometry, const void* input,
                                const PlaneStrides* input_strides, const void* skip,
                                const PlaneStrides* skip_strides, void* output,
                                int64_t channels_last) {
  return guarded_for_type(dtype, [=](auto* type) {
    using scalar_t = std::remove_pointer_t<decltype(type)>;
    launch_bilinear_forward(geometry->shape(), static_cast<const scalar_t*>(input), *input_strides,
                            static_cast<const scalar_t*>(skip), *skip_strides,
                            static_cast<scalar_t*>(output), channels_last != 0, nullptr);
  });
}

extern "C" int bilinear_backward(int64_t dtype, const Geometry* geometry, const void* grad_output,
                                 const PlaneStrides* grad_output_strides, void* grad_input,
                                 int64_t channels_last) {
  return guarded_for_type(dtype, [=](auto* type) {
    using scalar_t = std::remove_pointer_t<decltype(type)>;
    launch_bilinear_backward(geometry->shape(), static_cast<const scalar_t*>(grad_output),
                             *grad_output_strides, static_cast<scalar_t*>(grad_input),
                             channels_last != 0, nullptr);
  });
}

// How many more elements a backward block can hold than it has to, the minimum over all tiles:
// spare[0] in its threads, spare[1] in its shared row. Rows are made up of whole vectors.
extern "C" int bilinear_backward_spare(int64_t dtype, const Geometry* geometry, int64_t* spare) {
  return guarded_for_type(dtype, [=](auto* type) {
    using scalar_t = std::remove_pointer_t<decltype(type)>;
    constexpr int kVector = 16 / sizeof(scalar_t);
    const BilinearAxis x = geometry->shape().x;
    const auto tiles = bilinear_backward_tiles<scalar_t>(geometry->shape(), false, kVector);
    spare[0] = spare[1] = INT64_MAX;
    for (int64_t first = 0; first < x.input_size && tiles.pieces == 1; first += tiles.tile_inputs) {
      const int64_t begin = first_output(x, first - 1);
      const int64_t columns =
          first_output(x, smaller(first + tiles.tile_inputs, x.input_size)) - begin;
      const int64_t held = int64_t{tiles.plane_threads} * kBackwardElements<scalar_t>;
      spare[0] = smaller(spare[0], held - begin % kVector - columns);
      spare[1] = smaller(spare[1], tiles.piece_columns - columns);
    }
  });
}

// The rows of the input that a backward block walks down.
extern "C" int bilinear_backward_chunk_rows(int64_t dtype, const Geometry* geometry,
                                            int64_t* chunk_rows) {
  return guarded_for_type(dtype, [=](auto* type) {
    using scalar_t = std::remove_pointer_t<decltype(type)>;
    *chunk_rows = bilinear_backward_tiles<scalar_t>(geometry->shape(), false, 16 / sizeof(scalar_t))
                      .chunk_rows;
  });
}
