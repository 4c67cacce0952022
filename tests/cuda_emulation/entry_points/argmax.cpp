// Entry points of argmax_cases.py.
#include "argmax/cuda/kernels.cuh"
#include "arguments.h"

using namespace fcn_ext;

extern "C" int argmax_labels(int64_t dtype, const Geometry* geometry, const void* input,
                             const PlaneStrides* strides, void* labels, int64_t label_type,
                             void* probability) {
  return guarded_for_type(dtype, [=](auto* type) {
    using scalar_t = std::remove_pointer_t<decltype(type)>;
    launch_argmax(geometry->shape(), static_cast<const scalar_t*>(input), *strides, labels,
                  static_cast<int>(label_type), static_cast<accumulate_of<scalar_t>*>(probability),
                  nullptr);
  });
}

extern "C" int argmax_confusion(int64_t dtype, const Geometry* geometry, const void* input,
                                const PlaneStrides* strides, const void* target,
                                int64_t target_type, int64_t t0, int64_t t1, int64_t t2,
                                int64_t ignore_index, int64_t* matrix, int64_t* invalid) {
  return guarded_for_type(dtype, [=](auto* type) {
    using scalar_t = std::remove_pointer_t<decltype(type)>;
    const LabelMap labels{target, static_cast<int>(target_type), {t0, t1, t2}};
    launch_argmax_confusion(geometry->shape(), static_cast<const scalar_t*>(input), *strides,
                            labels, ignore_index, matrix, invalid, nullptr);
  });
}

extern "C" int argmax_hits(int64_t dtype, const Geometry* geometry, const void* input,
                           const PlaneStrides* strides, const void* target, int64_t target_type,
                           int64_t t0, int64_t t1, int64_t t2, int64_t ignore_index,
                           int64_t* hits) {
  return guarded_for_type(dtype, [=](auto* type) {
    using scalar_t = std::remove_pointer_t<decltype(type)>;
    const LabelMap labels{target, static_cast<int>(target_type), {t0, t1, t2}};
    launch_argmax_hits(geometry->shape(), static_cast<const scalar_t*>(input), *strides, labels,
                       ignore_index, hits, nullptr);
  });
}

// How the tiles of a geometry are cut: whether there are any, then stages of classes, band, cell
// rows and columns of a tile, tiles in a chunk, and a block's histograms and bytes of shared
// memory.
extern "C" int argmax_plan(int64_t dtype, const Geometry* geometry, int64_t counting,
                           int64_t* plan) {
  return cuda_emulation::guarded([=] {
    const BilinearShape shape = geometry->shape();
    unsigned long long matrix = 0;
    confusion::Counts counts{static_cast<int32_t>(shape.channels), 255, 0,
                             counting != 0 ? &matrix : nullptr, nullptr};
    const int64_t bytes = argmax::choose_histogram(shape, counts);
    argmax::ArgmaxTiles tiles{};
    plan[0] = argmax::make_tiles(shape, false, dtype == 1 ? 8 : 4, bytes, tiles) ? 1 : 0;
    plan[1] = tiles.stages;
    plan[2] = tiles.band;
    plan[3] = tiles.cell_rows;
    plan[4] = tiles.cell_columns;
    plan[5] = tiles.chunk_tiles;
    plan[6] = counts.copies;
    plan[7] = tiles.layout.bytes;
  });
}
