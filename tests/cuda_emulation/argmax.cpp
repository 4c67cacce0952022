// Entry points of test_argmax.py.
#include "argmax/argmax_kernels.cuh"

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

extern "C" int argmax_labels(int64_t dtype, const Problem* problem, const void* input,
                             const PlaneStrides* strides, void* labels, int64_t label_type,
                             void* probability) {
  return cuda_emulation::guarded([=] {
    dispatch(dtype, [=](auto* type) {
      using scalar_t = std::remove_pointer_t<decltype(type)>;
      launch_argmax(problem->shape(), static_cast<const scalar_t*>(input), *strides, labels,
                    static_cast<int>(label_type),
                    static_cast<accumulate_of<scalar_t>*>(probability), nullptr);
    });
  });
}

extern "C" int argmax_confusion(int64_t dtype, const Problem* problem, const void* input,
                                const PlaneStrides* strides, const void* target,
                                int64_t target_type, int64_t t0, int64_t t1, int64_t t2,
                                int64_t ignore_index, int64_t* matrix, int64_t* invalid) {
  return cuda_emulation::guarded([=] {
    const LabelMap labels{target, static_cast<int>(target_type), {t0, t1, t2}};
    dispatch(dtype, [=](auto* type) {
      using scalar_t = std::remove_pointer_t<decltype(type)>;
      launch_argmax_confusion(problem->shape(), static_cast<const scalar_t*>(input), *strides,
                              labels, ignore_index, matrix, invalid, nullptr);
    });
  });
}

// How the tiles of a problem are cut: whether there are any, then chunks of classes, band, cell
// rows and columns of a tile, tiles of a strip, histograms and bytes of shared memory of a block.
extern "C" int argmax_plan(int64_t dtype, const Problem* problem, int64_t counting, int64_t* plan) {
  return cuda_emulation::guarded([=] {
    const BilinearShape shape = problem->shape();
    unsigned long long matrix = 0;
    confusion::Counts counts{static_cast<int32_t>(shape.channels), 255, 0,
                             counting != 0 ? &matrix : nullptr, nullptr};
    const int64_t bytes = argmax::choose_histogram(shape, counts);
    argmax::ArgmaxTiles tiles{};
    plan[0] = argmax::make_tiles(shape, false, dtype == 1 ? 8 : 4, bytes, tiles) ? 1 : 0;
    plan[1] = tiles.chunks;
    plan[2] = tiles.band;
    plan[3] = tiles.cell_rows;
    plan[4] = tiles.cell_columns;
    plan[5] = tiles.strip_tiles;
    plan[6] = counts.copies;
    plan[7] = tiles.layout.bytes;
  });
}
