// The labels of a block of the tile kernel: codes of the pixels, runs of equal ones, and the
// weights that those have at the corners of a thread's cell.
#pragma once

#include "cross_entropy/cuda/finish.cuh"
#include "softmax/cuda/exact.cuh"

namespace fcn_ext {
namespace cross_entropy {

// Codes of labels that are no class. Pixels that a cell does not have are ignored, too.
constexpr uint32_t kIgnoredCode = 0xffff;
constexpr uint32_t kInvalidCode = 0xfffe;

struct TileArgs {
  SoftmaxTiles tiles;
  LabelMap target;
  int64_t ignore_index;
  ClassTerms<float> terms;
  PartialLoss* partials;     // of each block, or null
  float* losses;             // of each pixel (N, H, W), or null
  const float* grad_output;  // of each pixel's loss (N, H, W), or null: one everywhere
  TotalWeights totals;       // that the gradient is divided by
};

// The labels' part of a block's shared memory, behind the engine's: byte offsets of its arrays.
template <typename Tile, bool with_gradient>
struct LabelShared {
  static constexpr int kCodes = NodeShared<Tile, with_gradient>::kBytes;   // uint16 a pixel
  static constexpr int kLoss = kCodes + 2 * Tile::kPixels * kTileThreads;  // double a thread
  static constexpr int kSmoothed = kLoss + 8 * kTileThreads;               // double a node
  static constexpr int kWeights = kSmoothed + 8 * Tile::kNodes;            // float a thread
  static constexpr int kFound = kWeights + 4 * kTileThreads;               // unsigned a thread
  static constexpr int kAlike = kFound + 4 * kTileThreads;                 // unsigned a thread
  static constexpr int kValid = kAlike + 4 * kTileThreads;                 // float a node
  static constexpr int kAllSmooth = kValid + 4 * Tile::kNodes;             // float
  static constexpr int kScale = kAllSmooth + 4;                            // float
  static constexpr int kBytes = kScale + 4;
};

// Sums over pixels of their weights at the corners of a cell: top left, top right, bottom left,
// bottom right. A corner that no pixel reads has exactly zero.
template <typename real>
struct CornerWeights {
  real at[4] = {0, 0, 0, 0};

  // Adds `factor` times `columns` x `rows` pixels, the first of them at (x, y).
  __device__ __forceinline__ void add(real factor, int columns, real x, real x_step, int rows,
                                      real y, real y_step) {
    const auto sum_of = [](int count, real first, real step) {
      const auto n = static_cast<real>(count);
      return std::fma(step, static_cast<real>(0.5) * n * (n - 1), n * first);
    };
    const real right = sum_of(columns, x, x_step), left = static_cast<real>(columns) - right;
    const real rows_y = sum_of(rows, y, y_step);
    const real bottom = factor * rows_y, top = factor * (static_cast<real>(rows) - rows_y);
    at[0] = std::fma(top, left, at[0]);
    at[1] = std::fma(top, right, at[1]);
    at[2] = std::fma(bottom, left, at[2]);
    at[3] = std::fma(bottom, right, at[3]);
  }
};

// The codes of a block and what is asked of them.
template <typename Tile, bool with_gradient>
struct TileLabels : TileGradients<Tile, with_gradient> {
  using Nodes = TileGradients<Tile, with_gradient>;
  using Shared = LabelShared<Tile, with_gradient>;
  using Span = typename Nodes::Span;
  using Nodes::part;
  using Nodes::thread;
  static constexpr int kSide = Tile::kSide;
  static constexpr unsigned kAllAlike = 1u << kSide;
  using RowBits = vector_bits<uint16_t, kSide>;

  const TileArgs& args;
  uint16_t* codes;  // labels, row by row of all threads
  unsigned* alike;  // of a thread: which rows are of one label; kAllAlike: all pixels are

  __device__ __forceinline__ explicit TileLabels(const TileArgs& given)
      : Nodes(given.tiles), args(given) {
    auto* bytes = shared_memory<unsigned char>();
    codes = reinterpret_cast<uint16_t*>(bytes + Shared::kCodes);
    alike = reinterpret_cast<unsigned*>(bytes + Shared::kAlike);
  }

  static __device__ __forceinline__ int code_index(int j, int i, int owner) {
    return (j * kTileThreads + owner) * kSide + i;
  }
  // The label of a pixel of a thread's part.
  __device__ __forceinline__ uint32_t code(int j, int i) const {
    return codes[code_index(j, i, thread)];
  }
  // Those of a row: two in each word, the first of them in its lower half.
  struct RowCodes {
    uint32_t pairs[kSide / 2];
    __device__ __forceinline__ uint32_t operator[](int i) const {
      return pairs[i / 2] >> (i % 2 * 16) & 0xffff;
    }
  };
  __device__ __forceinline__ RowCodes row_codes(int j) const {
    const RowBits bits = *reinterpret_cast<const RowBits*>(codes + code_index(j, 0, thread));
    RowCodes row;
    __builtin_memcpy(&row, &bits, sizeof(row));
    return row;
  }
  // Where a pixel of a thread's part lies in (N, H, W).
  __device__ __forceinline__ int64_t pixel_offset(int j, int i) const {
    const BilinearAxis &y = args.tiles.grid.y, &x = args.tiles.grid.x;
    return (this->image() * y.output_size + this->rows().begin + j) * x.output_size +
           this->columns().begin + i;
  }
  // Where a pixel that is computed again does.
  __device__ __forceinline__ int64_t offset_of(const ExactPixel<Tile, with_gradient>& pixel) const {
    const BilinearAxis &y = args.tiles.grid.y, &x = args.tiles.grid.x;
    return (this->image() * y.output_size + pixel.row) * x.output_size + pixel.column;
  }
  // The derivative by a pixel's loss.
  __device__ __forceinline__ float grad_output(int j, int i) const {
    return args.grad_output == nullptr ? 1.0f : args.grad_output[pixel_offset(j, i)];
  }

  // The pixels' labels as codes, of each thread its own. A thread loads a column of them, several
  // at a time; where there is no pixel it loads one that there is.
  __device__ __forceinline__ void load_labels() const {
    constexpr int kWidth = Tile::kColumns * Tile::kCellSide;
    constexpr int kHeight = Tile::kRows * Tile::kCellSide;
    constexpr int kStep = kTileThreads / kWidth;
    constexpr int kAhead = kHeight / kStep < 8 ? kHeight / kStep : 8;
    const int i = thread % kWidth, first = kStep == 1 ? 0 : thread / kWidth;
    const int column_cell = i / Tile::kCellSide, column_phase = i % Tile::kCellSide;
    const int32_t x = this->column_begins[column_cell] + column_phase;
    const bool column_is_there = x < this->column_begins[column_cell + 1];
    const int column_owner = column_cell * Tile::kLanes + column_phase / kSide;
    const int64_t row_step = args.target.stride[1];
    with_labels(args.target.data, args.target.type, [&](const auto* labels) {
      using label_t = std::remove_const_t<std::remove_pointer_t<decltype(labels)>>;
      const auto* const image = labels + this->image() * args.target.stride[0];
      const auto* const column = image + x * args.target.stride[2];
      const auto* const elsewhere =
          image + this->row_begins[0] * row_step + this->column_begins[0] * args.target.stride[2];
#pragma unroll 1
      for (int start = first; start < kHeight; start += kAhead * kStep) {
        label_t ahead[kAhead];
        bool is_there[kAhead];
#pragma unroll
        for (int a = 0; a < kAhead; ++a) {
          const int j = start + a * kStep, row_cell = j / Tile::kCellSide;
          const int32_t y = this->row_begins[row_cell] + j % Tile::kCellSide;
          is_there[a] = column_is_there && y < this->row_begins[row_cell + 1];
          ahead[a] = *(is_there[a] ? column + y * row_step : elsewhere);
        }
#pragma unroll
        for (int a = 0; a < kAhead; ++a) {
          const int j = start + a * kStep, row_cell = j / Tile::kCellSide;
          const int row_segment = j % Tile::kCellSide / kSide;
          const int owner = row_cell * Tile::kColumns * Tile::kLanes +
                            row_segment * Tile::kSegments + column_owner;
          // kIgnored and kInvalid become codes in 16 bits.
          const int32_t label =
              is_there[a] ? label_class(ahead[a], args.ignore_index, args.terms.classes) : kIgnored;
          codes[code_index(j % kSide, i % kSide, owner)] = static_cast<uint16_t>(label);
        }
      }
    });
  }

  // Calls body(code, j, i, columns, rows) for rectangles of equal labels that make up the thread's
  // pixels, from column i and row j on; for single pixels where each has a loss of its own.
  template <typename Body>
  __device__ __forceinline__ void each_run(const Body& body) const {
    const Span rows = this->rows(), columns = this->columns();
    const bool apart = args.losses != nullptr || args.grad_output != nullptr;
    const unsigned same = apart ? 0 : alike[thread];
    const int height = (same & kAllAlike) != 0 ? rows.count : 1;
#pragma unroll 1
    for (int j = 0; j < rows.count; j += height) {
      const int width = (same >> j & 1) != 0 ? columns.count : 1;
#pragma unroll 1
      for (int i = 0; i < columns.count; i += width) {
        body(code(j, i), j, i, width, height);
      }
    }
  }

  // Adds the weights of such a rectangle.
  __device__ __forceinline__ void add_run(CornerWeights<float>& sums, int j, int i, int columns,
                                          int rows) const {
    const PixelSteps& steps = args.tiles.grid.steps;
    const Part own = part();
    sums.add(grad_output(j, i), columns, fmaf(static_cast<float>(i), steps.x, own.x), steps.x, rows,
             fmaf(static_cast<float>(j), steps.y, own.y), steps.y);
  }
  __device__ __forceinline__ void add_run(CornerWeights<double>& sums, int j, int i, int columns,
                                          int rows) const {
    const BilinearAxis y = unclamped(args.tiles.grid.y), x = unclamped(args.tiles.grid.x);
    const auto position = [](const BilinearAxis& line, int64_t output) {
      return upper_weight<double>(line, bilinear_tap(line, output));
    };
    sums.add(1, columns, position(x, this->columns().begin + i), weight_step(x), rows,
             position(y, this->rows().begin + j), weight_step(y));
  }

  // Finds `alike`.
  __device__ __forceinline__ void compare_labels() const {
    const Span rows = this->rows(), columns = this->columns();
    const uint32_t first = code(0, 0) * 0x10001u;
    // What the cell does not have is no difference.
    uint32_t there[kSide / 2];
#pragma unroll
    for (int p = 0; p < kSide / 2; ++p) {
      there[p] = columns.count <= 2 * p ? 0 : columns.count == 2 * p + 1 ? 0xffffu : 0xffffffffu;
    }
    unsigned same = 0;
    bool all_same = true;
#pragma unroll
    for (int j = 0; j < kSide; ++j) {
      const RowCodes row = row_codes(j);
      const uint32_t own = row[0] * 0x10001u;
      uint32_t in_row = 0;
#pragma unroll
      for (int p = 0; p < kSide / 2; ++p) {
        in_row |= (row.pairs[p] ^ own) & there[p];
      }
      same |= in_row == 0 ? 1u << j : 0;
      all_same = all_same && (j >= rows.count || (in_row == 0 && own == first));
    }
    alike[thread] = same | (all_same ? kAllAlike : 0);
  }
};

}  // namespace cross_entropy
}  // namespace fcn_ext
