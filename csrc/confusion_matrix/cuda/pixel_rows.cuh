// Label maps of any strides as rows of pixels, distributed over warps piece by piece.
//
// A lane loads the labels of a few neighboring pixels at once: in 16-byte vectors if they are
// aligned and contiguous, else, and at the ends of a row, one by one.
#pragma once

#include "common/cuda/device.cuh"
#include "confusion_matrix/cpu/count.h"
#include "confusion_matrix/cuda/counter.cuh"

namespace fcn_ext {
namespace confusion {

// Pixels as rows, as few and as long as the memory of both maps allows. Warp w starts with piece w
// and advances by the number of all warps, which is `step_rows` rows and `step_pieces` pieces.
struct PixelRows {
  int64_t count, width;
  int64_t per_image;
  int64_t pieces;  // per row
  int64_t step_rows, step_pieces;
};

// A map as such rows; strides in elements.
struct MapRows {
  const void* data;
  int type;
  int64_t image, row, column;
};

// The pixels of two maps as rows, the same ones for both. Drops axes of one pixel and merges axes
// that are contiguous in the memory of both maps.
inline PixelRows pixel_rows(const LabelShape& shape, const int64_t (&strides)[2][3], MapRows& first,
                            MapRows& second) {
  int64_t size[3] = {1, 1, 1}, stride[2][3] = {};
  const int64_t sizes[3] = {shape.batch, shape.height, shape.width};
  int axis = 2;
  for (int d = 2; d >= 0; --d) {
    if (sizes[d] == 1) {
      continue;
    }
    const int inner = axis + 1;
    if (inner < 3 && strides[0][d] == size[inner] * stride[0][inner] &&
        strides[1][d] == size[inner] * stride[1][inner]) {
      size[inner] *= sizes[d];
      continue;
    }
    size[axis] = sizes[d];
    for (int map = 0; map < 2; ++map) {
      stride[map][axis] = strides[map][d];
    }
    --axis;
  }
  MapRows* const maps[] = {&first, &second};
  for (int map = 0; map < 2; ++map) {
    // With one row per image, rows step by images.
    maps[map]->image = size[0] == 1 ? stride[map][1] : stride[map][0];
    maps[map]->row = stride[map][1];
    maps[map]->column = size[2] == 1 ? 1 : stride[map][2];
  }
  return {size[0] * size[1], size[2], size[0] == 1 ? 1 : size[1], 0, 0, 0};
}

// Runs body(row, piece) for the pieces of this warp; its lanes stay together.
template <typename Body>
__device__ __forceinline__ void each_piece(const PixelRows& rows, const Body& body) {
  const int64_t warp = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / kWarp;
  int64_t row = warp / rows.pieces, piece = warp % rows.pieces;
  while (row < rows.count) {
    body(row, piece);
    row += rows.step_rows;
    piece += rows.step_pieces;
    if (piece >= rows.pieces) {
      piece -= rows.pieces;
      ++row;
    }
  }
}

__device__ __forceinline__ int64_t row_offset(const PixelRows& rows, const MapRows& map,
                                              int64_t row) {
  if (rows.per_image == 1) {
    return row * map.image;
  }
  return row / rows.per_image * map.image + row % rows.per_image * map.row;
}

// Elements between the last 16-byte boundary and an address.
template <typename T>
__device__ __forceinline__ int past_boundary(const T* address) {
  return static_cast<int>(reinterpret_cast<uintptr_t>(address) % 16 / sizeof(T));
}

// Labels that may be classes, as all bytes are, keep their value; others are kIgnored or kInvalid.
template <typename label_t>
__device__ __forceinline__ uint32_t label_code(label_t label, int64_t ignore_index) {
  if constexpr (sizeof(label_t) > 1) {
    // Negative labels are large as unsigned.
    if (static_cast<std::make_unsigned_t<label_t>>(label) >= static_cast<uint32_t>(kClassLimit)) {
      return label == ignore_index ? kIgnored : kInvalid;
    }
  }
  return static_cast<uint32_t>(label);
}

template <typename label_t, int count>
__device__ __forceinline__ void load_labels_of(const MapRows& map, int64_t offset, int64_t first,
                                               int64_t width, int64_t ignore_index,
                                               uint32_t (&labels)[count]) {
  constexpr int kMost = 16 / static_cast<int>(sizeof(label_t));
  constexpr int kVector = count < kMost ? count : kMost;
  const int64_t column = count == 1 ? map.column : 1;
  const label_t* start = static_cast<const label_t*>(map.data) + offset + first * column;
  if (count > 1 && first >= 0 && first + count <= width &&
      reinterpret_cast<uintptr_t>(start) % (kVector * sizeof(label_t)) == 0) {
#pragma unroll
    for (int v = 0; v < count; v += kVector) {
      const Vector<label_t, kVector> vector = load_vector_streamed<kVector>(start + v);
#pragma unroll
      for (int k = 0; k < kVector; ++k) {
        labels[v + k] = label_code(vector.values[k], ignore_index);
      }
    }
  } else {
#pragma unroll
    for (int k = 0; k < count; ++k) {
      const int64_t x = first + k;
      labels[k] = x >= 0 && x < width ? label_code(start[k], ignore_index) : kIgnored;
    }
  }
}

// Loads labels [first, first + count) of a row; those outside [0, width) read as ignored. If count
// > 1, the labels of a row must be contiguous.
template <int count>
__device__ __forceinline__ void load_labels(const MapRows& map, int64_t offset, int64_t first,
                                            int64_t width, int64_t ignore_index,
                                            uint32_t (&labels)[count]) {
  switch (map.type) {
    case 0:
      return load_labels_of<uint8_t>(map, offset, first, width, ignore_index, labels);
    case 1:
      return load_labels_of<int16_t>(map, offset, first, width, ignore_index, labels);
    case 2:
      return load_labels_of<int32_t>(map, offset, first, width, ignore_index, labels);
    default:
      return load_labels_of<int64_t>(map, offset, first, width, ignore_index, labels);
  }
}

// The number of labels between the last 16-byte boundary and the start of a row.
__device__ __forceinline__ int labels_past_boundary(const MapRows& map, int64_t offset) {
  const auto address =
      reinterpret_cast<uintptr_t>(map.data) + (static_cast<uintptr_t>(offset) << map.type);
  return static_cast<int>(address % 16 >> map.type);
}

}  // namespace confusion
}  // namespace fcn_ext
