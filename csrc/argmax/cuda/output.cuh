// Output of labels: stored as vectors, or counted against a target in a confusion matrix.
//
// A lane takes a piece of kPiece neighboring pixels, which starts where the memory of the row is
// aligned.
#pragma once

#include "argmax/cuda/tile.cuh"
#include "common/cuda/labels.cuh"
#include "confusion_matrix/cuda/counter.cuh"
#include "confusion_matrix/cuda/pixel_rows.cuh"

namespace fcn_ext {
namespace argmax {

constexpr int64_t kMostPixelsOfBlock = int64_t{1} << 30;  // so that a 32-bit bin cannot overflow

// Either labels or counts. `labels`: dense (N, H, W), of one of LabelMap's types, or null.
struct ArgmaxOutput {
  void* labels;
  int type;
  LabelMap target;
  confusion::Counts counts;
};

// The labels of a piece as in shared memory, two per word.
struct PieceLabels {
  uint32_t pairs[kPiece / 2];

  __device__ __forceinline__ explicit PieceLabels(const uint16_t* labels) {
    const auto bits = *reinterpret_cast<const uint4*>(labels);
    __builtin_memcpy(pairs, &bits, sizeof(pairs));
  }
  __device__ __forceinline__ uint32_t operator[](int k) const {
    return k % 2 == 0 ? pairs[k / 2] & 0xffff : pairs[k / 2] >> 16;
  }
  // The lower bytes of the four labels from `first` on.
  __device__ __forceinline__ uint32_t bytes(int first) const {
    const uint32_t a = pairs[first / 2], b = pairs[first / 2 + 1];
#if defined(FCN_EXT_CUDA_EMULATION)
    return (a & 0xff) | (a >> 8 & 0xff00) | (b & 0xff) << 16 | (b >> 16 & 0xff) << 24;
#else
    return __byte_perm(a, b, 0x6420);
#endif
  }
};

// Stores a piece at an address aligned to a vector.
template <typename label_t>
__device__ __forceinline__ void store_piece(label_t* to, const PieceLabels& labels) {
  constexpr int kWhole = 16 / static_cast<int>(sizeof(label_t));
  constexpr int kVector = kWhole < kPiece ? kWhole : kPiece;
#pragma unroll
  for (int v = 0; v < kPiece; v += kVector) {
    Vector<label_t, kVector> vector;
    if constexpr (sizeof(label_t) == 1) {
      const uint32_t words[] = {labels.bytes(0), labels.bytes(4)};
      __builtin_memcpy(&vector, words, sizeof(vector));
    } else if constexpr (sizeof(label_t) == 2) {
      __builtin_memcpy(&vector, labels.pairs, sizeof(vector));
    } else {
#pragma unroll
      for (int k = 0; k < kVector; ++k) {
        vector.values[k] = static_cast<label_t>(labels[v + k]);
      }
    }
    store_vector_streamed(to + v, vector);
  }
}

// Loads the targets from pixel x of an image's row on. Those outside the tile's pixels [begin, end)
// become ignored. The row's targets start at `offset`.
__device__ __forceinline__ void load_targets(const ArgmaxOutput& output, int64_t offset, int x,
                                             int begin, int end, int width,
                                             uint32_t (&targets)[kPiece]) {
  const LabelMap& target = output.target;
  const confusion::MapRows map{target.data, target.type, 0, 0, target.stride[2]};
  if (map.column == 1) {
    confusion::load_labels(map, offset, x, width, output.counts.ignore_index, targets);
  } else {
#pragma unroll
    for (int k = 0; k < kPiece; ++k) {
      uint32_t one[1];
      confusion::load_labels(map, offset, x + k, width, output.counts.ignore_index, one);
      targets[k] = one[0];
    }
  }
  if (x < begin || x + kPiece > end) {
#pragma unroll
    for (int k = 0; k < kPiece; ++k) {
      targets[k] = x + k >= begin && x + k < end ? targets[k] : confusion::kIgnored;
    }
  }
}

// The stride between rows of the stored labels, or of the target.
__device__ __forceinline__ int64_t row_stride(const ArgmaxArgs& args, const ArgmaxOutput& output) {
  return output.labels != nullptr ? args.shape.x.output_size : output.target.stride[1];
}

// Finds where the rows of a tile lie in memory, and where their labels start in the tile: as far
// past a multiple of kPiece as they lie past a vector's boundary in memory.
template <typename accumulate_t>
__device__ __forceinline__ void locate_rows(const ArgmaxArgs& args, const ArgmaxOutput& output,
                                            const Tile<accumulate_t>& tile) {
  const int row = static_cast<int>(threadIdx.x);
  const int rows = tile.rows();
  static_assert(kMostNodeRows * kMostBand <= kThreads);
  if (row >= rows) {
    return;
  }
  const bool storing = output.labels != nullptr;
  const LabelMap& target = output.target;
  const confusion::MapRows map{storing ? output.labels : target.data,
                               storing ? output.type : target.type, 0, 0, 0};
  const int64_t stride = row_stride(args, output);
  const int64_t image = storing ? args.shape.y.output_size * stride : target.stride[0];
  const int64_t column = storing ? 1 : target.stride[2];
  const int64_t start =
      tile.image * image + tile.row_begin()[0] * stride + tile.column_begin()[0] * column;
  const int vector = smaller(kPiece, 16 >> map.type);
  const int late = confusion::labels_past_boundary(map, start + row * stride);
  tile.row_start()[row] = row * args.tiles.label_pitch + (late & (vector - 1));
  if (row == 0) {
    const auto pieces =
        static_cast<uint32_t>(larger((tile.columns() + 2 * kPiece - 2) / kPiece, 2));
    *tile.memory() = {start, pieces, 0xffffffffu / pieces + 1};
  }
}

// Distributes the pieces of a tile over threads: calls body(row, x, address of its labels in the
// tile) for the pixels [x, x + kPiece) of a row. All threads of a warp stay together; those without
// a piece get row -1.
template <typename accumulate_t, typename Body>
__device__ __forceinline__ void each_piece(const Tile<accumulate_t>& tile, const Body& body) {
  const uint32_t pieces = tile.memory()->pieces, inverse = tile.memory()->inverse;
  const uint32_t units = static_cast<uint32_t>(tile.rows()) * pieces;
  const auto thread = static_cast<uint32_t>(opaque(static_cast<int>(threadIdx.x)));
  const uint32_t lane = thread % kWarp;
#pragma unroll 1
  for (uint32_t base = thread - lane; base < units; base += kThreads) {
    const uint32_t unit = base + lane;
    const auto row = static_cast<int>(uint64_t{unit} * inverse >> 32);
    int start = 0, x = 0;
    if (unit < units) {
      start = tile.row_start()[row];
      x = static_cast<int>((unit - static_cast<uint32_t>(row) * pieces) * kPiece) -
          (start & (kPiece - 1));
    }
    body(unit < units ? row : -1, x, tile.labels() + start + x);
  }
}

// Stores the labels of a tile: whole pieces first, then those at the ends of rows, two per row.
template <typename accumulate_t, typename label_t>
__device__ __forceinline__ void store_tile(const Tile<accumulate_t>& tile, label_t* labels,
                                           int64_t stride) {
  label_t* const to = labels + tile.memory()->start;
  const int columns = tile.columns();
  each_piece(tile, [&](int row, int x, const uint16_t* from) {
    if (row >= 0 && x >= 0 && x + kPiece <= columns) {
      store_piece(to + row * stride + x, PieceLabels(from));
    }
  });
  const int ends = 2 * tile.rows();
#pragma unroll 1
  for (int end = static_cast<int>(threadIdx.x); end < ends; end += kThreads) {
    const int row = end / 2, start = tile.row_start()[row], late = start & (kPiece - 1);
    // The first pixel of the row's first or last piece.
    const int last = ((columns + late - 1) & -kPiece) - late;
    const int x = end % 2 == 0 ? -late : last;
    if ((x >= 0 && x + kPiece <= columns) || (end % 2 != 0 && last <= 0)) {
      continue;
    }
    const PieceLabels piece(tile.labels() + start + x);
    label_t* const pixel = to + row * stride + x;
#pragma unroll
    for (int k = 0; k < kPiece; ++k) {
      if (x + k >= 0 && x + k < columns) {
        pixel[k] = static_cast<label_t>(piece[k]);
      }
    }
  }
}

// Counts the labels of a tile.
template <typename accumulate_t>
__device__ __forceinline__ void count_tile(const ArgmaxArgs& args, const ArgmaxOutput& output,
                                           const Tile<accumulate_t>& tile) {
  const confusion::Counter counter(output.counts);
  const auto width = static_cast<int>(args.shape.x.output_size);
  const int begin = tile.column_begin()[0], end = begin + tile.columns();
  const auto targets_of = [&](int row, int x, uint32_t (&targets)[kPiece]) {
    const int64_t offset = tile.memory()->start - begin * output.target.stride[2] +
                           (row >= 0 ? row * output.target.stride[1] : 0);
    load_targets(output, offset, row >= 0 ? begin + x : end, begin, end, width, targets);
  };
  if (output.counts.hits) {
    static_assert(kMostTilePixels < 1 << 16);
    unsigned pixels = 0;  // packed for add_hits()
    each_piece(tile, [&](int row, int x, const uint16_t* from) {
      uint32_t targets[kPiece];
      targets_of(row, x, targets);
      const PieceLabels labels(from);
#pragma unroll
      for (int k = 0; k < kPiece; ++k) {
        pixels += !counter.has_class(targets[k]) ? 0 : targets[k] == labels[k] ? 0x10001 : 1;
      }
    });
    return counter.add_hits(pixels);
  }
  each_piece(tile, [&](int row, int x, const uint16_t* from) {
    uint32_t both[kPiece];
    targets_of(row, x, both);
    const PieceLabels labels(from);
#pragma unroll
    for (int k = 0; k < kPiece; ++k) {
      both[k] = both[k] << 16 | labels[k];
    }
    confusion::count_runs(counter, both);
  });
}

// Stores or counts the labels of a tile. All threads of the block must call this.
template <typename accumulate_t>
__device__ __forceinline__ void emit_tile(const ArgmaxArgs& args, const ArgmaxOutput& output,
                                          const Tile<accumulate_t>& tile) {
  if (output.labels == nullptr) {
    count_tile(args, output, tile);
  } else {
    with_labels(output.labels, output.type,
                [&](auto* labels) { store_tile(tile, labels, row_stride(args, output)); });
  }
}

}  // namespace argmax
}  // namespace fcn_ext
