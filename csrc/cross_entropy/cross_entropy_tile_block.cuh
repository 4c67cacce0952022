// What a block of the geometric-row kernel prepares before it goes through the classes, and the
// parts of that which concern nodes and labels.
#pragma once

#include "cross_entropy/cross_entropy_cells.cuh"
#include "cross_entropy/cross_entropy_tiles.cuh"

namespace fcn_ext {
namespace cross_entropy {

constexpr int64_t kNoNode = INT64_MIN;
// Codes of labels that are no class.
constexpr uint32_t kIgnoredCode = 0xffff;
constexpr uint32_t kInvalidCode = 0xfffe;

// A block's place and shared memory.
template <typename Tile, bool with_gradient>
struct TileBlock {
  using Shared = TileShared<Tile, with_gradient>;
  static constexpr int kNodes = Tile::kNodes;

  const TileArgs& args;
  int thread, cell, lane;
  int image, first_row, first_column;  // the latter in cells
  Part<Tile> part;

  int64_t* input;             // of a node: where its scores are, or kNoNode
  int64_t* output;            // its gradient: in the image's, or -1 - slot of the rim, or kNoNode
  unsigned long long* exact;  // of a thread: pixels to compute again
  double* scratch;
  double* loss;    // of a thread
  float* weights;  // of the labels of a thread
  float* staged;
  float* maxima;
  int* counts;  // of a staged class and node: weights of its pixels, times 4 stride^2
  int* valid;   // of a node: the same for all classes
  int* flags;   // is a score far from the node's largest? is there a pixel to compute again?
  float* corners;
  uint16_t* codes;  // labels, of (pixel, thread)

  __device__ __forceinline__ explicit TileBlock(const TileArgs& tile_args) : args(tile_args) {
    thread = static_cast<int>(threadIdx.x);
    cell = thread / Tile::kLanes;
    lane = thread % Tile::kLanes;
    part = {lane % Tile::kSegments * Tile::kSide, lane / Tile::kSegments * Tile::kSide};
    const int tile = static_cast<int>(blockIdx.x);
    image = tile / (args.grid.rows * args.grid.columns);
    first_row = tile / args.grid.columns % args.grid.rows * Tile::kRows;
    first_column = tile % args.grid.columns * Tile::kColumns;

    auto* bytes = shared_memory<unsigned char>();
    input = reinterpret_cast<int64_t*>(bytes + Shared::kInput);
    output = reinterpret_cast<int64_t*>(bytes + Shared::kOutput);
    exact = reinterpret_cast<unsigned long long*>(bytes + Shared::kExact);
    scratch = reinterpret_cast<double*>(bytes + Shared::kScratch);
    loss = reinterpret_cast<double*>(bytes + Shared::kLoss);
    weights = reinterpret_cast<float*>(bytes + Shared::kWeights);
    staged = reinterpret_cast<float*>(bytes + Shared::kStaged);
    maxima = reinterpret_cast<float*>(bytes + Shared::kMaxima);
    counts = reinterpret_cast<int*>(bytes + Shared::kCounts);
    valid = reinterpret_cast<int*>(bytes + Shared::kValid);
    flags = reinterpret_cast<int*>(bytes + Shared::kFlags);
    corners = reinterpret_cast<float*>(bytes + Shared::kCorners);
    codes = reinterpret_cast<uint16_t*>(bytes + Shared::kCodes);
  }

  __device__ __forceinline__ int node_row(int node) const {
    return first_row - 1 + node / Tile::kNodeColumns;
  }
  __device__ __forceinline__ int node_column(int node) const {
    return first_column - 1 + node % Tile::kNodeColumns;
  }

  // Whether any pixel of the output lies in the tile.
  __device__ __forceinline__ bool has_pixels() const {
    const CellAxis &y = args.grid.y, &x = args.grid.x;
    return int64_t{first_row + Tile::kRows} * Tile::kStride > y.offset &&
           int64_t{first_row} * Tile::kStride < y.offset + y.outputs &&
           int64_t{first_column + Tile::kColumns} * Tile::kStride > x.offset &&
           int64_t{first_column} * Tile::kStride < x.offset + x.outputs;
  }

  // Where scores and gradients of the nodes are; counts at zero.
  __device__ __forceinline__ void find_nodes() const {
    const CellAxis &y = args.grid.y, &x = args.grid.x;
    for (int node = thread; node < Tile::kNodes; node += kTileThreads) {
      int64_t row = node_row(node), column = node_column(node);
      const bool row_is_there = row >= 0 && row < y.nodes;
      const bool column_is_there = column >= 0 && column < x.nodes;
      output[node] = kNoNode;
      if (with_gradient && row_is_there && column_is_there) {
        const int i = node / Tile::kNodeColumns, j = node % Tile::kNodeColumns;
        const bool rim = i == 0 || i == Tile::kRows || j == 0 || j == Tile::kColumns;
        output[node] =
            rim ? -1 - rim_slot<Tile>(i, j)
                : row * args.gradient_strides.row + column * args.gradient_strides.column;
      }
      row = y.clamp ? larger<int64_t>(0, smaller(row, y.nodes - 1)) : row;
      column = x.clamp ? larger<int64_t>(0, smaller(column, x.nodes - 1)) : column;
      input[node] = row >= 0 && row < y.nodes && column >= 0 && column < x.nodes
                        ? image * args.input_strides.batch + row * args.input_strides.row +
                              column * args.input_strides.column
                        : kNoNode;
      valid[node] = 0;
    }
    for (int k = thread; k < kTileClasses * Tile::kNodes; k += kTileThreads) {
      counts[k] = 0;
    }
    if (thread == 0) {
      flags[0] = flags[1] = 0;
    }
  }

  // The largest score of each node, NaN if there is one: the node then makes all its cells NaN.
  __device__ __forceinline__ void find_maxima() const {
    with_scores(args, [&](const auto* scores) {
      for (int node = thread; node < Tile::kNodes; node += kTileThreads) {
        float most = 0, least = 0;
        if (input[node] != kNoNode) {
          const auto* from = scores + input[node];
          most = least = static_cast<float>(*from);
#pragma unroll 8
          for (int32_t c = 1; c < args.terms.classes; ++c) {
            from += args.input_strides.channel;
            const auto score = static_cast<float>(*from);
            most = score > most || score != score ? score : most;
            least = fminf(score, least);
          }
        }
        // The differences to an infinity are NaN for all classes, or none of its cells would be.
        maxima[node] = most == INFINITY ? not_a_number<float>() : most;
        if (!(most - least <= kRange)) {
          flags[0] = 1;
        }
      }
    });
  }

  // The pixels' labels as codes, of each thread its own.
  __device__ __forceinline__ void load_labels() const {
    constexpr int kWidth = Tile::kColumns * Tile::kStride;
    constexpr int kHeight = Tile::kRows * Tile::kStride;
    const CellAxis &y_axis = args.grid.y, &x_axis = args.grid.x;
    const int64_t y_begin = int64_t{first_row} * Tile::kStride - y_axis.offset;
    const int64_t x_begin = int64_t{first_column} * Tile::kStride - x_axis.offset;
    with_labels(args.target, [&](const auto* labels) {
      labels += image * args.target.stride[0];
#pragma unroll 4
      for (int k = thread; k < kWidth * kHeight; k += kTileThreads) {
        const int i = k % kWidth, j = k / kWidth;
        const int64_t y = y_begin + j, x = x_begin + i;
        uint32_t code = kIgnoredCode;
        if (y >= 0 && y < y_axis.outputs && x >= 0 && x < x_axis.outputs) {
          const int32_t label =
              label_class(labels[y * args.target.stride[1] + x * args.target.stride[2]],
                          args.ignore_index, args.terms.classes);
          code = label >= 0 ? static_cast<uint32_t>(label)
                            : (label == kIgnored ? kIgnoredCode : kInvalidCode);
        }
        const int owner = (j / Tile::kStride * Tile::kColumns + i / Tile::kStride) * Tile::kLanes +
                          j % Tile::kStride / Tile::kSide * Tile::kSegments +
                          i % Tile::kStride / Tile::kSide;
        codes[(j % Tile::kSide * Tile::kSide + i % Tile::kSide) * kTileThreads + owner] =
            static_cast<uint16_t>(code);
      }
    });
  }

  __device__ __forceinline__ uint32_t code(int pixel) const {
    return codes[pixel * kTileThreads + thread];
  }

  // Stages the classes [first, first + count); to be waited for.
  __device__ __forceinline__ void stage(int32_t first, int count, float* to) const {
    with_scores(args, [&](const auto* scores) {
      const auto copy = [&](int k, int node) {
        float* const target = to + k * Tile::kNodes + node;
        const int64_t offset = input[node];
        if (offset == kNoNode) {
          *target = 0;
          return;
        }
        const auto* source = scores + offset + (first + k) * args.input_strides.channel;
        if constexpr (sizeof(*source) == sizeof(float)) {
          __pipeline_memcpy_async(target, source, sizeof(float));
        } else {
          *target = static_cast<float>(*source);
        }
      };
      if (args.input_strides.channel == 1) {
#pragma unroll 2
        for (int e = thread; e < kTileClasses * Tile::kNodes; e += kTileThreads) {
          if (e % kTileClasses < count) {
            copy(e % kTileClasses, e / kTileClasses);
          }
        }
      } else {
        for (int node = thread; node < Tile::kNodes; node += kTileThreads) {
#pragma unroll
          for (int k = 0; k < kTileClasses; ++k) {
            if (k < count) {
              copy(k, node);
            }
          }
        }
      }
    });
    __pipeline_commit();
  }

  // Adds the weights of `pixels` pixels with the given sums of 2 x + 1, 2 y + 1 and their product
  // to the nodes of the cell, as whole numbers: their order does not matter.
  __device__ __forceinline__ void add_weights(int* nodes, int pixels, int sum_x, int sum_y,
                                              int sum_xy) const {
    constexpr int kWhole = 2 * Tile::kStride;
    const int row = cell / Tile::kColumns, column = cell % Tile::kColumns;
    // Beyond a clamped border the last node is met again.
    const int top = row + (args.grid.y.clamp && first_row + row == 0 ? 1 : 0);
    const int bottom = row + (args.grid.y.clamp && first_row + row == args.grid.y.nodes ? 0 : 1);
    const int left = column + (args.grid.x.clamp && first_column + column == 0 ? 1 : 0);
    const int right =
        column + (args.grid.x.clamp && first_column + column == args.grid.x.nodes ? 0 : 1);
    const int all_right = kWhole * sum_x - sum_xy, all_bottom = kWhole * sum_y - sum_xy;
    atomicAdd(nodes + top * Tile::kNodeColumns + left,
              kWhole * (kWhole * pixels - sum_x) - all_bottom);
    atomicAdd(nodes + top * Tile::kNodeColumns + right, all_right);
    atomicAdd(nodes + bottom * Tile::kNodeColumns + left, all_bottom);
    atomicAdd(nodes + bottom * Tile::kNodeColumns + right, sum_xy);
  }

  __device__ __forceinline__ void add_weights_of_all(int* nodes) const {
    constexpr int kSide = Tile::kSide;
    const int sum_x = kSide * (2 * part.across + kSide), sum_y = kSide * (2 * part.down + kSide);
    add_weights(nodes, kSide * kSide, kSide * sum_x, kSide * sum_y, sum_x * sum_y);
  }

  // The same for the thread's pixels, run by run of equal labels; nodes_of(code) says where, null
  // for nowhere.
  template <typename NodesOf>
  __device__ __forceinline__ void add_weights_by_label(const NodesOf& nodes_of) const {
    uint32_t run = kIgnoredCode;
    int pixels = 0, sum_x = 0, sum_y = 0, sum_xy = 0;
    int pixel = 0;
#pragma unroll 1
    for (int y = 2 * part.down + 1; y < 2 * (part.down + Tile::kSide); y += 2) {
#pragma unroll 1
      for (int x = 2 * part.across + 1; x < 2 * (part.across + Tile::kSide); x += 2) {
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

  // Where class c's gradient of a node goes, null for nowhere.
  __device__ __forceinline__ float* destination(int node, int32_t c) const {
    const int64_t offset = output[node];
    if (offset == kNoNode) {
      return nullptr;
    }
    if (offset < 0) {
      return args.rims + (static_cast<int64_t>(blockIdx.x) * args.terms.classes + c) * Tile::kRim -
             1 - offset;
    }
    return args.gradient + image * args.gradient_strides.batch + c * args.gradient_strides.channel +
           offset;
  }

  // Calls body(k, node) for the staged classes k and the nodes, in the gradient's order in memory.
  template <typename Body>
  __device__ __forceinline__ void each_node(int count, const Body& body) const {
    const bool interleaved = args.gradient_strides.channel == 1;
    for (int e = thread; e < kTileClasses * Tile::kNodes; e += kTileThreads) {
      const int k = interleaved ? e % kTileClasses : e / Tile::kNodes;
      if (k < count) {
        body(k, interleaved ? e / kTileClasses : e % Tile::kNodes);
      }
    }
  }

  // Adds up what the cells around a node hold for it.
  __device__ __forceinline__ float sum_around(const float* class_corners, int node) const {
    const int i = node / Tile::kNodeColumns, j = node % Tile::kNodeColumns;
    const auto at = [&](int row, int column, int corner) {
      return row >= 0 && row < Tile::kRows && column >= 0 && column < Tile::kColumns
                 ? class_corners[corner * Tile::kCells + row * Tile::kColumns + column]
                 : 0.0f;
    };
    const auto along = [&](int row, int corner) {
      float sum = at(row, j - 1, corner + 1) + at(row, j, corner);
      if (args.grid.x.clamp && node_column(node) == 0) {
        sum += at(row, j - 1, corner);
      }
      if (args.grid.x.clamp && node_column(node) == args.grid.x.nodes - 1) {
        sum += at(row, j, corner + 1);
      }
      return sum;
    };
    float sum = along(i - 1, 2) + along(i, 0);
    if (args.grid.y.clamp && node_row(node) == 0) {
      sum += along(i - 1, 0);
    }
    if (args.grid.y.clamp && node_row(node) == args.grid.y.nodes - 1) {
      sum += along(i, 2);
    }
    return sum;
  }
};

}  // namespace cross_entropy
}  // namespace fcn_ext
