// The nodes of a block's tile: their places, and the addresses of their scores and gradients.
#pragma once

#include "softmax/cuda/cells.cuh"
#include "softmax/cuda/tiles.cuh"

namespace fcn_ext {
namespace softmax {

constexpr int64_t kNoNode = INT64_MIN;  // other offsets are not negative

// Whether a cell lies beyond a clamped border, where both its nodes are the border's.
__device__ __forceinline__ bool before_border(const BilinearAxis& axis, int64_t cell) {
  return axis.clamp && cell == 0;
}
__device__ __forceinline__ bool behind_border(const BilinearAxis& axis, int64_t cell) {
  return axis.clamp && cell == axis.input_size;
}

// threadIdx.x, read again at each use: it is not worth a register.
struct ThreadIndex {
  __device__ __forceinline__ operator int() const {
#if defined(FCN_EXT_CUDA_EMULATION)
    return static_cast<int>(threadIdx.x);
#else
    int index;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(index));
    return index;
#endif
  }
};

template <typename Tile, bool with_gradient>
struct TileNodes {
  using Shared = NodeShared<Tile, with_gradient>;
  static constexpr int kNodes = Tile::kNodes, kClasses = Tile::kClasses;
  static constexpr int kStage = kClasses * Tile::kSlots;

  const SoftmaxTiles& tiles;
  ThreadIndex thread;

  int64_t* input;              // per node: the offset of its scores, or kNoNode
  float** output;              // per node: its gradient for class 0; on the rim, a part of it
  int32_t* output_step;        // per node: from one class to the next; 0: no gradient
  Vector<int32_t, 4>* around;  // per node: where cells hold sums for it, see with_sums_around
  float* staged;               // scores by Tile::slot_of; maxima likewise
  float* maxima;
  unsigned long long* exact;  // per thread: pixels to compute again
  double* scratch;            // per thread
  int* flags;           // [0]: a score is far below its node's largest; [1]: a pixel must be redone
  float* corners;       // sums by staged class, corner and stack
  int* place;           // image, first row and first column of the tile
  unsigned* ended;      // meetings where the block is the last one, see rims.cuh
  int32_t* row_begins;  // per row of cells, and for one more: its first row of pixels
  int32_t* column_begins;  // likewise
  float2* part_y;          // per row of parts: Part::j and Part::y_step
  float2* part_x;
  // Only if a thread has more than one cell:
  int* nodes_there;    // how many nodes the cells read, if at most one per thread; else 0
  uint16_t* node_of;   // per thread, if so
  uint8_t* stack_of;   // per thread
  uint8_t* vector_of;  // per thread: which vector of nodes it stages

  __device__ __forceinline__ explicit TileNodes(const SoftmaxTiles& given) : tiles(given) {
    auto* bytes = shared_memory<unsigned char>();
    input = reinterpret_cast<int64_t*>(bytes + Shared::kInput);
    output = reinterpret_cast<float**>(bytes + Shared::kOutput);
    output_step = reinterpret_cast<int32_t*>(bytes + Shared::kOutputStep);
    around = reinterpret_cast<Vector<int32_t, 4>*>(bytes + Shared::kAround);
    exact = reinterpret_cast<unsigned long long*>(bytes + Shared::kExact);
    scratch = reinterpret_cast<double*>(bytes + Shared::kScratch);
    staged = reinterpret_cast<float*>(bytes + Shared::kStaged);
    maxima = reinterpret_cast<float*>(bytes + Shared::kMaxima);
    place = reinterpret_cast<int*>(bytes + Shared::kPlace);
    flags = reinterpret_cast<int*>(bytes + Shared::kFlags);
    ended = reinterpret_cast<unsigned*>(bytes + Shared::kEnded);
    corners = reinterpret_cast<float*>(bytes + Shared::kCorners);
    row_begins = reinterpret_cast<int32_t*>(bytes + Shared::kRowBegins);
    column_begins = reinterpret_cast<int32_t*>(bytes + Shared::kColumnBegins);
    part_y = reinterpret_cast<float2*>(bytes + Shared::kPartY);
    part_x = reinterpret_cast<float2*>(bytes + Shared::kPartX);
    nodes_there = reinterpret_cast<int*>(bytes + Shared::kNodesThere);
    node_of = reinterpret_cast<uint16_t*>(bytes + Shared::kNodeOf);
    stack_of = bytes + Shared::kStackOf;
    vector_of = bytes + Shared::kVectorOf;
  }

  // The image of the tile, and its first row and column of cells.
  __device__ __forceinline__ int image() const { return place[0]; }
  __device__ __forceinline__ int first_row() const { return place[1]; }
  __device__ __forceinline__ int first_column() const { return place[2]; }

  // A thread's stack of cells, its number among the threads of the stack, and its parts of the
  // cells: computed again at each use instead of held in registers. `which` counts the cells of a
  // stack from the top.
  __device__ __forceinline__ unsigned index() const {
    return static_cast<unsigned>(opaque(thread));
  }
  __device__ __forceinline__ unsigned stack() const {
    return Tile::kStack == 1 ? index() / Tile::kLanes : stack_of[thread];
  }
  __device__ __forceinline__ unsigned lane() const { return index() % Tile::kLanes; }
  static __device__ __forceinline__ unsigned cell_of(unsigned stack, int which) {
    if constexpr (Tile::kStack == 1) {
      return stack;
    } else {
      const unsigned row = stack / Tile::kColumns * Tile::kStack + static_cast<unsigned>(which);
      return row * Tile::kColumns + stack % Tile::kColumns;
    }
  }
  __device__ __forceinline__ unsigned part_row(int which = 0) const {
    return cell_of(stack(), which) / Tile::kColumns * Tile::kSegments + lane() / Tile::kSegments;
  }
  __device__ __forceinline__ unsigned part_column() const {
    return stack() % Tile::kColumns * Tile::kSegments + lane() % Tile::kSegments;
  }
  __device__ __forceinline__ Part part(int which = 0) const {
    const float2 x = part_x[part_column()], y = part_y[part_row(which)];
    return {x.x, y.x, x.y, y.y};
  }

  // The pixels of a row or column of parts: the first output, and how many.
  struct Span {
    int32_t begin;
    int count;
  };
  static __device__ __forceinline__ Span span_of(const int32_t* begins, unsigned part) {
    const unsigned cell = part / Tile::kSegments;
    const int32_t begin = begins[cell] + static_cast<int32_t>(part % Tile::kSegments * Tile::kSide);
    return {begin, larger(0, smaller(Tile::kSide, begins[cell + 1] - begin))};
  }
  __device__ __forceinline__ Span rows(int which = 0) const {
    return span_of(row_begins, part_row(which));
  }
  __device__ __forceinline__ Span columns() const { return span_of(column_begins, part_column()); }

  // The node at corner k of the thread's stack: left before right, from top to bottom.
  __device__ __forceinline__ int own_node(int k) const {
    return top_left_of<Tile>(stack()) + Tile::to_corner(k);
  }

  // The node at corner k of a cell; beyond a clamped border, the border's node.
  __device__ __forceinline__ int corner_node(int of_cell, int k) const {
    const int cell_row = of_cell / Tile::kColumns, cell_column = of_cell % Tile::kColumns;
    const int row = first_row() + cell_row, column = first_column() + cell_column;
    const BilinearAxis &y = tiles.grid.y, &x = tiles.grid.x;
    const int i = before_border(y, row) ? 1 : behind_border(y, row) ? 0 : k / 2;
    const int j = before_border(x, column) ? 1 : behind_border(x, column) ? 0 : k % 2;
    return Tile::node_at(cell_row + i, cell_column + j);
  }

  // Finds the tile's place, the first outputs of its cells, and where the parts lie in the cells. A
  // barrier must follow.
  __device__ __forceinline__ void find_cells() const {
    constexpr int kRowTurns = Tile::kRows * Tile::kSegments + 1;
    constexpr int kColumnTurns = Tile::kColumns * Tile::kSegments + 1;
    static_assert(kRowTurns <= kWarp && kColumnTurns <= kWarp);
    if (thread >= 2 * kWarp) {
      return;
    }
    const auto rows = static_cast<unsigned>(tiles.grid.rows);
    const auto columns = static_cast<unsigned>(tiles.grid.columns);
    const unsigned tile_row = blockIdx.x / columns, image = tile_row / rows;
    const int first_row = static_cast<int>(tile_row - image * rows) * Tile::kRows;
    const int first_column = static_cast<int>(blockIdx.x - tile_row * columns) * Tile::kColumns;
    if (thread == 0) {
      place[0] = static_cast<int>(image);
      place[1] = first_row;
      place[2] = first_column;
    }
    if (thread < kRowTurns) {
      find_part(tiles.grid.y, tiles.grid.steps.y, first_row, thread, kRowTurns - 1, row_begins,
                part_y);
    } else if (thread >= kWarp && thread < kWarp + kColumnTurns) {
      find_part(tiles.grid.x, tiles.grid.steps.x, first_column, thread - kWarp, kColumnTurns - 1,
                column_begins, part_x);
    }
  }
  static __device__ __forceinline__ void find_part(const BilinearAxis& axis, float step,
                                                   int first_cell, int part, int parts,
                                                   int32_t* begins, float2* places) {
    const BilinearAxis line = unclamped(axis);
    const int cell = part / Tile::kSegments, segment = part % Tile::kSegments;
    const int64_t lower_node = first_cell + cell - 1;
    const int64_t begin = first_output(line, lower_node);
    if (segment == 0) {
      begins[cell] = static_cast<int32_t>(begin);
    }
    if (part < parts) {
      const BilinearTap tap = bilinear_tap(line, begin);
      const double first = tap.node == lower_node ? upper_weight<double>(line, tap) : 0;
      const auto position =
          smaller(1.0f, static_cast<float>(first + segment * Tile::kSide * weight_step(line)));
      if (before_border(axis, first_cell + cell)) {
        places[part] = {1 / kBorderStep, kBorderStep};
      } else if (behind_border(axis, first_cell + cell)) {
        places[part] = {0, 0};
      } else {
        places[part] = {position / step, step};
      }
    }
  }

  // Whether any pixel of the output lies in the tile.
  __device__ __forceinline__ bool has_pixels() const {
    return row_begins[0] < row_begins[Tile::kRows] &&
           column_begins[0] < column_begins[Tile::kColumns];
  }

  // Finds the scores and gradients of the nodes.
  __device__ __forceinline__ void find_nodes() const {
    const BilinearAxis &y = tiles.grid.y, &x = tiles.grid.x;
    for (int node = thread; node < Tile::kNodes; node += Tile::kThreads) {
      const int i = Tile::row_of(node), j = node % Tile::kNodeColumns;
      int row = first_row() - 1 + i, column = first_column() - 1 + j;
      const int height = static_cast<int>(y.input_size), width = static_cast<int>(x.input_size);
      const bool row_is_there = row >= 0 && row < height;
      const bool column_is_there = column >= 0 && column < width;
      output_step[node] = 0;
      if (with_gradient && row_is_there && column_is_there) {
        const bool rim = i == 0 || i == Tile::kRows || j == 0 || j == Tile::kColumns;
        output_step[node] = rim ? tiles.rim_class_step<Tile>()
                                : static_cast<int32_t>(tiles.gradient_strides.channel);
        output[node] =
            rim ? tiles.rims + static_cast<int64_t>(blockIdx.x) * tiles.classes * Tile::kRim +
                      int64_t{rim_slot<Tile>(i, j)} * tiles.rim_step()
                : tiles.gradient + image() * tiles.gradient_strides.batch +
                      row * tiles.gradient_strides.row + column * tiles.gradient_strides.column;
      }
      if constexpr (Tile::kStack == 1) {
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          const int cell_row = i - 1 + k / 2, cell_column = j - 1 + k % 2;
          const bool inside = cell_row >= 0 && cell_row < Tile::kRows && cell_column >= 0 &&
                              cell_column < Tile::kColumns;
          around[node].values[k] =
              inside ? (3 - k) * Tile::kCells + cell_row * Tile::kColumns + cell_column
                     : 4 * Tile::kCells;
        }
      }
      // Beyond a clamped border the last nodes are repeated once; no cell reads any further.
      const bool is_read = row <= height && column <= width;
      row = y.clamp ? larger(0, smaller(row, height - 1)) : row;
      column = x.clamp ? larger(0, smaller(column, width - 1)) : column;
      input[node] = is_read && row >= 0 && row < height && column >= 0 && column < width
                        ? image() * tiles.input_strides.batch + row * tiles.input_strides.row +
                              column * tiles.input_strides.column
                        : kNoNode;
      if (input[node] == kNoNode) {
        for (int k = 0; k < 2 * kClasses; ++k) {
          staged[k * Tile::kSlots + Tile::slot_of(node)] = 0;
        }
        maxima[Tile::slot_of(node)] = 0;
      }
    }
    if (thread == 0) {
      flags[0] = flags[1] = 0;
    }
    if constexpr (Tile::kStack > 1) {
      share_nodes();
      stack_of[thread] = static_cast<uint8_t>(find_stack());
    }
    // The zero that a node reads for a cell that it lacks.
    if constexpr (with_gradient && Tile::kStack == 1) {
      if (thread < kClasses) {
        corners[thread * Tile::kCornerPitch + 4 * Tile::kCells] = 0;
      }
    } else if constexpr (with_gradient) {
      static_assert(Shared::kCorners % 16 == 0 && Tile::kCornerPitch % 4 == 0);
      auto* const sums = reinterpret_cast<float4*>(corners);
#pragma unroll 1
      for (int k = thread; k < kClasses * Tile::kCornerPitch / 4; k += Tile::kThreads) {
        sums[k] = {0, 0, 0, 0};
      }
    }
  }

  // Rows of scores are copied to shared memory in vectors of four nodes. The first vector ends with
  // the first node.
  static constexpr int kVectors = Tile::kPitch / 4, kAllVectors = (Tile::kRows + 1) * kVectors;

  // Assigns nodes and vectors to threads. If the map ends after a few rows or columns of the tile,
  // the first threads take those that cells read, so that other warps have nothing to do.
  __device__ __forceinline__ void share_nodes() const {
    static_assert(kAllVectors <= Tile::kThreads && Tile::kThreads <= UINT8_MAX);
    const auto read = [](const BilinearAxis& axis, int first, int most) {
      return smaller(most, static_cast<int>(axis.input_size) - first + 2);
    };
    const int rows = read(tiles.grid.y, first_row(), Tile::kRows + 1);
    const int columns = read(tiles.grid.x, first_column(), Tile::kNodeColumns);
    const bool few = rows * columns <= Tile::kThreads;
    int vector = thread;
    if (few) {
      node_of[thread] = static_cast<uint16_t>(Tile::node_at(thread / columns, thread % columns));
      const int vectors = (columns + Tile::kLead + 3) / 4, row = thread / vectors;
      vector = row <= Tile::kRows ? row * kVectors + thread % vectors : kAllVectors;
    }
    vector_of[thread] = static_cast<uint8_t>(vector);
    if (thread == 0) {
      *nodes_there = few ? rows * columns : 0;
    }
  }

  // The stack of a thread: row by row, or column by column where that leaves more warps idle, as in
  // a tile in which the map ends after a few columns.
  __device__ __forceinline__ int find_stack() const {
    constexpr int kRows = Tile::kStacks / Tile::kColumns;
    const int rows = smaller(
        kRows, (static_cast<int>(tiles.grid.y.input_size) - first_row()) / Tile::kStack + 1);
    const int columns =
        smaller(Tile::kColumns, static_cast<int>(tiles.grid.x.input_size) - first_column() + 1);
    const auto warps = [](int stacks) { return (stacks + kWarp - 1) / kWarp; };
    const bool down = warps(columns * kRows) < warps(rows * Tile::kColumns);
    return down ? thread % kRows * Tile::kColumns + thread / kRows : thread;
  }
};

}  // namespace softmax
}  // namespace fcn_ext
