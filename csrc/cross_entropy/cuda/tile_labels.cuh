// The labels of a block of the tile kernel: codes of the pixels, and the weights that the
// pixels of a class have at the nodes.
#pragma once

#include "cross_entropy/cuda/labels.cuh"
#include "softmax/cuda/node_gradients.cuh"

namespace fcn_ext {
namespace cross_entropy {

// Codes of labels that are no class.
constexpr uint32_t kIgnoredCode = 0xffff;
constexpr uint32_t kInvalidCode = 0xfffe;

struct TileArgs {
  SoftmaxTiles tiles;
  LabelMap target;
  int64_t ignore_index;
  ClassTerms<float> terms;
  PartialLoss* partials;  // of each block
};

// The labels' part of a block's shared memory, behind the engine's: byte offsets of its arrays.
template <typename Tile, bool with_gradient>
struct LabelShared {
  static constexpr int kLoss = NodeShared<Tile, with_gradient>::kBytes;  // double a thread
  static constexpr int kWeights = kLoss + 8 * kTileThreads;              // float a thread
  static constexpr int kCounts = kWeights + 4 * kTileThreads;  // int a staged class and node
  static constexpr int kValid = kCounts + 4 * kTileClasses * Tile::kNodes;  // int a node
  static constexpr int kAllSmooth = kValid + 4 * Tile::kNodes;              // float
  static constexpr int kTurns = kAllSmooth + 4;                             // unsigned a thread
  static constexpr int kCodes = kTurns + 4 * kTileThreads;                  // uint16 a pixel
  static constexpr int kBytes = kCodes + 2 * Tile::kPixels * kTileThreads;
};

// A block's place and shared memory.
template <typename Tile, bool with_gradient>
struct TileBlock : TileGradients<Tile, with_gradient> {
  using Nodes = TileGradients<Tile, with_gradient>;
  using Shared = LabelShared<Tile, with_gradient>;
  using Nodes::cell;
  using Nodes::part;
  using Nodes::thread;

  const TileArgs& args;
  double* loss;       // of a thread
  float* weights;     // of the labels of a thread
  int* counts;        // of a staged class and node: weights of its pixels, times 4 stride^2
  int* valid;         // of a node: the same for all classes
  unsigned* turns;    // of a thread: the classes of its labels, see note_labels
  float* all_smooth;  // smooth_total
  uint16_t* codes;    // labels, of (pixel, thread)

  __device__ __forceinline__ explicit TileBlock(const TileArgs& given)
      : Nodes(given.tiles), args(given) {
    auto* bytes = shared_memory<unsigned char>();
    loss = reinterpret_cast<double*>(bytes + Shared::kLoss);
    weights = reinterpret_cast<float*>(bytes + Shared::kWeights);
    counts = reinterpret_cast<int*>(bytes + Shared::kCounts);
    valid = reinterpret_cast<int*>(bytes + Shared::kValid);
    turns = reinterpret_cast<unsigned*>(bytes + Shared::kTurns);
    all_smooth = reinterpret_cast<float*>(bytes + Shared::kAllSmooth);
    codes = reinterpret_cast<uint16_t*>(bytes + Shared::kCodes);
  }

  __device__ __forceinline__ void clear_sums() const {
    if (with_gradient && thread < kTileClasses) {
      this->corners[thread * Tile::kCornerPitch + 4 * Tile::kCells] = 0;
    }
    for (int k = thread; k < kTileClasses * Tile::kNodes; k += kTileThreads) {
      counts[k] = 0;
    }
    for (int node = thread; node < Tile::kNodes; node += kTileThreads) {
      valid[node] = 0;
    }
  }

  // The pixels' labels as codes, of each thread its own. A thread loads a column of them.
  __device__ __forceinline__ void load_labels() const {
    constexpr int kWidth = Tile::kColumns * Tile::kStride;
    constexpr int kHeight = Tile::kRows * Tile::kStride;
    constexpr int kStep = kTileThreads / kWidth;
    const StrideAxis &y_axis = args.tiles.grid.y, &x_axis = args.tiles.grid.x;
    const int i = thread % kWidth, first = kStep == 1 ? 0 : thread / kWidth;
    const int64_t x = int64_t{this->first_column()} * Tile::kStride - x_axis.offset + i;
    const int64_t y = int64_t{this->first_row()} * Tile::kStride - y_axis.offset;
    // Of the rows of the tile, those that the output has.
    const bool column_is_there = x >= 0 && x < x_axis.outputs;
    const auto begin = static_cast<int>(larger<int64_t>(0, -y));
    const auto end =
        static_cast<int>(column_is_there ? smaller<int64_t>(kHeight, y_axis.outputs - y) : 0);
    const int column = code_index(
        i % Tile::kSide, i / Tile::kStride * Tile::kLanes + i % Tile::kStride / Tile::kSide);
    with_labels(args.target.data, args.target.type, [&](const auto* labels) {
      const auto* from = labels + this->image() * args.target.stride[0] +
                         (y + first) * args.target.stride[1] + x * args.target.stride[2];
#pragma unroll 8
      for (int j = first; j < kHeight; j += kStep) {
        uint32_t found = kIgnoredCode;
        if (j >= begin && j < end) {
          // kIgnored and kInvalid become codes in 16 bits.
          found = static_cast<uint32_t>(label_class(*from, args.ignore_index, args.terms.classes)) &
                  0xffff;
        }
        from += kStep * args.target.stride[1];
        const int cell_row = j / Tile::kStride * Tile::kColumns * Tile::kLanes;
        const int lanes = j % Tile::kStride / Tile::kSide * Tile::kSegments;
        codes[column + code_index(j % Tile::kSide * Tile::kSide, cell_row + lanes)] =
            static_cast<uint16_t>(found);
      }
    });
  }

  // Two pixels of a thread lie side by side.
  static __device__ __forceinline__ int code_index(int pixel, int owner) {
    return (pixel / 2 * kTileThreads + owner) * 2 + pixel % 2;
  }
  __device__ __forceinline__ uint32_t code(int pixel) const {
    return codes[code_index(pixel, thread)];
  }
  // Those of two pixels, the first of which is even: the second's in the upper half.
  __device__ __forceinline__ uint32_t code_pair(int pixel) const {
    return reinterpret_cast<const uint32_t*>(codes)[pixel / 2 * kTileThreads + thread];
  }

  // Adds the weights of `pixels` pixels with the given sums of 2 x + 1, 2 y + 1 and their product
  // to the nodes of the cell, as whole numbers: their order does not matter.
  __device__ __forceinline__ void add_weights(int* nodes, int pixels, int sum_x, int sum_y,
                                              int sum_xy) const {
    constexpr int kWhole = 2 * Tile::kStride;
    const int of_cell = cell();
    const int right = kWhole * sum_x - sum_xy, bottom = kWhole * sum_y - sum_xy;
    atomicAdd(nodes + this->corner_node(of_cell, 0), kWhole * (kWhole * pixels - sum_x) - bottom);
    atomicAdd(nodes + this->corner_node(of_cell, 1), right);
    atomicAdd(nodes + this->corner_node(of_cell, 2), bottom);
    atomicAdd(nodes + this->corner_node(of_cell, 3), sum_xy);
  }

  __device__ __forceinline__ void add_weights_of_all(int* nodes) const {
    constexpr int kSide = Tile::kSide;
    const Part<Tile> own = part();
    const int sum_x = kSide * (2 * own.across + kSide), sum_y = kSide * (2 * own.down + kSide);
    add_weights(nodes, kSide * kSide, kSide * sum_x, kSide * sum_y, sum_x * sum_y);
  }

  // The same for the thread's pixels, run by run of equal labels; nodes_of(code) says where, null
  // for nowhere.
  template <typename NodesOf>
  __device__ __forceinline__ void add_weights_by_label(const NodesOf& nodes_of) const {
    const Part<Tile> own = part();
    uint32_t run = kIgnoredCode;
    int pixels = 0, sum_x = 0, sum_y = 0, sum_xy = 0;
    int pixel = 0;
#pragma unroll 1
    for (int y = 2 * own.down + 1; y < 2 * (own.down + Tile::kSide); y += 2) {
#pragma unroll 1
      for (int x = 2 * own.across + 1; x < 2 * (own.across + Tile::kSide); x += 2) {
        const uint32_t next = code(pixel++);
        if (next != run) {
          if (int* nodes = nodes_of(run)) {
            add_weights(nodes, pixels, sum_x, sum_y, sum_xy);
          }
          pixels = sum_x = sum_y = sum_xy = 0;
          run = next;
        }
        ++pixels;
        sum_x += x;
        sum_y += y;
        sum_xy += x * y;
      }
    }
    if (int* nodes = nodes_of(run)) {
      add_weights(nodes, pixels, sum_x, sum_y, sum_xy);
    }
  }

  // Looks through the thread's labels: the sum of their weights, an invalid one, and which classes
  // there are, by the turn in which they are staged modulo 31; bit 31 says that all are the same.
  __device__ __forceinline__ void note_labels() const {
    const uint32_t first = code(0);
    bool uniform = true;
#pragma unroll 8
    for (int pixel = 0; pixel < Tile::kPixels; pixel += 2) {
      uniform = uniform && code_pair(pixel) == first * 0x10001u;
    }
    float sum = 0;
    unsigned found = 0;
    bool invalid = false;
    const int looked_at = uniform ? 1 : Tile::kPixels;
#pragma unroll 1
    for (int pixel = 0; pixel < looked_at; ++pixel) {
      const uint32_t next = code(pixel);
      invalid = invalid || next == kInvalidCode;
      if (next < kInvalidCode) {
        found |= 1u << next / kTileClasses % 31;
        sum += args.terms.weight_of(static_cast<int32_t>(next));
      }
    }
    sum *= uniform ? static_cast<float>(Tile::kPixels) : 1.0f;
    turns[thread] = found | (uniform ? 1u << 31 : 0);
    weights[thread] = sum;
    loss[thread] = invalid ? not_a_number<double>() : 0;
    if (args.terms.smooth != 0) {
      if (!uniform) {
        add_weights_by_label([&](uint32_t c) { return c < kInvalidCode ? valid : nullptr; });
      } else if (found != 0) {
        add_weights_of_all(valid);
      }
    }
  }

  // Adds the weights of the labels in [first, first + count) to `counts`.
  __device__ __forceinline__ void count_labels(int32_t first, int count) const {
    const unsigned found = turns[thread];
    if ((found >> (first / kTileClasses % 31) & 1) == 0) {
      return;
    }
    const auto nodes_of = [&](uint32_t c) {
      const int32_t k = static_cast<int32_t>(c) - first;
      return k >= 0 && k < count ? counts + k * Tile::kNodes : nullptr;
    };
    if (found >> 31 == 0) {
      add_weights_by_label(nodes_of);
    } else if (int* nodes = nodes_of(code(0))) {
      add_weights_of_all(nodes);
    }
  }
};

}  // namespace cross_entropy
}  // namespace fcn_ext
