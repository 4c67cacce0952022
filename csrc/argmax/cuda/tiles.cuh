// How the prediction kernels divide an output into cells and tiles, and what a tile has in shared
// memory. A tile's nodes down and across are powers of two, so that a thread finds its node without
// a division.
//
// A cell is the part of the output between the same four nodes: one band of rows by one band of
// columns, at most `band` of each. Cells run from the node before the first to the last one. Nodes
// outside the input are staged as zeros and have a weight of zero, so that every pixel of a cell
// reads all four nodes alike.
#pragma once

#include "bilinear/bilinear.h"
#include "cells/cuda/weights.cuh"
#include "common/cuda/launch.cuh"

namespace fcn_ext {
namespace argmax {

constexpr int kThreads = 256;
constexpr int kMostNodeRows = 8;  // per tile: powers of two, at most kThreads nodes in all
constexpr int kMostNodeColumns = 32;
constexpr int kFewestNodeColumns = 4;
constexpr int kMostTilePixels = 1 << 14;
constexpr int kFewestClasses = 32;  // in a stage, if there are that many
constexpr int kMostBand = 32;
constexpr int kSurvivorBins = 32;
constexpr int kPiece = 8;           // neighboring pixels of a lane when labels leave a tile
constexpr int kSystemBytes = 1024;  // shared memory of every block that the system takes
constexpr int kMixed = -1;          // in place of the class of a cell

// Blocks per multiprocessor that registers must allow.
template <typename accumulate_t>
constexpr int kBlocks = sizeof(accumulate_t) == 4 ? 3 : 2;

// Where the rows of a tile's labels lie in memory: the labels to be stored, or the target that they
// are compared with.
struct TileMemory {
  int64_t start;     // of the first row, in labels
  uint32_t pieces;   // per row, at least two
  uint32_t inverse;  // n / pieces is n * inverse / 2^32 for every piece number n
};

// The chunk that a block walks down: tiles of one image, one below the other.
struct ArgmaxChunk {
  int item, image;
  int first_cell_y, end_cell_y, first_cell_x;
};

// The shared memory of a tile: the byte offset of each array.
struct TileLayout {
  int scores;         // (staged, pitch) accumulate_t: scores of the tile's nodes, class by class
  int best, second;   // (parts, nodes) accumulate_t: the two largest scores of a node
  int best_class;     // (parts, nodes) int32
  int bounds;         // (cells, 4) accumulate_t: what classes must exceed in a mixed cell
  int column_weight;  // (columns) CellWeights
  int row_weight;     // (rows) CellWeights
  int column_begin;   // (cell columns + 1) int32, outputs
  int row_begin;      // (cell rows + 1) int32
  int row_start;      // (rows) int32: where labels of a row start
  int memory;         // TileMemory: where the labels go
  int survivors;      // (cells, staged / 32) uint32: the classes that may win in a mixed cell
  int chunk;          // ArgmaxChunk
  int mixed_count;    // int32
  int mixed;          // (cells) uint16: the mixed cells
  int survivor_bins;  // (32) int32: how many mixed cells have that many survivors
  int survivor_rank;  // (cells) uint16: a mixed cell's bin plus 32 times its rank there
  int mixed_order;    // (cells) uint16: indices into `mixed`, by number of survivors
  int labels;         // (rows, label_pitch) uint16: winners of the pixels
  int bytes;
};

struct ArgmaxTiles {
  int first_cell_y, first_cell_x;
  int cells_y, cells_x;
  int band;
  int node_rows, node_columns;  // of a tile, powers of two; one more than cells
  int cell_rows, cell_columns;
  int nodes, node_bits, column_bits;  // nodes of a tile, and logarithms
  int pitch;  // of a class in shared memory: odd, so that a node's classes lie in all banks
  int label_pitch;
  int parts, part_bits;  // threads that share a node
  int staged;            // classes in shared memory at a time: all, or a multiple of 32
  int stages;
  int tiles_x, tiles_y;
  int chunk_tiles;  // tiles in a chunk
  int chunks;
  int items;         // chunks of all tile columns of all images
  bool interleaved;  // channels are adjacent in memory
  bool near;         // 32 bits count the elements from class to class of a part
  bool exact_nodes;  // an output may lie on a node
  TileLayout layout;
};

// How the pixels of a cell are distributed over threads: kColumns columns of kRows rows each.
template <int band>
struct CellThreads {
  static constexpr int kColumns = band < 8 ? 2 : 1;
  static constexpr int kRows = band < 8 ? band : 8;
  static constexpr int kAcross = band / kColumns;
  static constexpr int kAll = kAcross * (band / kRows);
};
inline int threads_of_cell(int band) { return band < 8 ? band / 2 : band * band / 8; }

// Sets the size of a tile, in nodes.
inline void set_nodes(ArgmaxTiles& tiles, int rows, int columns) {
  const auto logarithm = [](int power) {
    int bits = 0;
    while (1 << bits < power) {
      ++bits;
    }
    return bits;
  };
  tiles.node_rows = rows;
  tiles.node_columns = columns;
  tiles.cell_rows = rows - 1;
  tiles.cell_columns = columns - 1;
  tiles.nodes = rows * columns;
  tiles.node_bits = logarithm(tiles.nodes);
  tiles.column_bits = logarithm(columns);
  tiles.pitch = tiles.nodes + 1;
  tiles.parts = kThreads / tiles.nodes;
  tiles.part_bits = logarithm(tiles.parts);
  // A row starts up to kPiece - 1 labels late.
  tiles.label_pitch = (tiles.cell_columns * tiles.band + 2 * kPiece - 2) / kPiece * kPiece;
}

// Places the arrays of a tile after a histogram. `staged` becomes the number of all classes if
// `whole`, else as many as fit into `budget`. Returns false if too few do.
inline bool lay_out(ArgmaxTiles& tiles, int channels, int accumulate_bytes, int64_t histogram_bytes,
                    int64_t budget, bool whole) {
  const int cells = tiles.cell_rows * tiles.cell_columns;
  const int rows = tiles.cell_rows * tiles.band, columns = tiles.cell_columns * tiles.band;
  int64_t bytes = histogram_bytes;
  const auto place = [&](int64_t count, int64_t size) {
    const int64_t begin = (bytes + 15) / 16 * 16;
    bytes = begin + count * size;
    return static_cast<int>(begin);
  };
  TileLayout& layout = tiles.layout;
  layout.best = place(tiles.parts * tiles.nodes, accumulate_bytes);
  layout.second = place(tiles.parts * tiles.nodes, accumulate_bytes);
  layout.best_class = place(tiles.parts * tiles.nodes, 4);
  layout.bounds = place(4 * cells, accumulate_bytes);
  layout.column_weight = place(columns, 2 * accumulate_bytes);
  layout.row_weight = place(rows, 2 * accumulate_bytes);
  layout.column_begin = place(tiles.cell_columns + 1, 4);
  layout.row_begin = place(tiles.cell_rows + 1, 4);
  layout.row_start = place(rows, 4);
  layout.memory = place(1, sizeof(TileMemory));
  layout.chunk = place(1, sizeof(ArgmaxChunk));
  layout.mixed_count = place(1, 4);
  layout.mixed = place(cells, 2);
  layout.survivor_bins = place(kSurvivorBins, 4);
  layout.survivor_rank = place(cells, 2);
  layout.mixed_order = place(cells, 2);
  layout.labels = place(int64_t{rows} * tiles.label_pitch, 2);
  // The rest is for classes: their scores, and one bit per cell.
  const int64_t of_32_classes = 32 * int64_t{tiles.pitch} * accumulate_bytes + 4 * cells;
  const int64_t fitting = larger<int64_t>(0, budget - bytes - 32) / of_32_classes * 32;
  tiles.staged = static_cast<int>(whole ? channels : smaller<int64_t>(fitting, channels));
  if (tiles.staged < smaller(channels, kFewestClasses)) {
    return false;
  }
  tiles.stages = (channels + tiles.staged - 1) / tiles.staged;
  const int64_t words = (tiles.staged + 31) / 32;
  if (bytes + int64_t{tiles.staged} * tiles.pitch * accumulate_bytes + words * cells * 4 + 32 >
      budget) {
    return false;
  }
  layout.survivors = place(words * cells, 4);
  layout.scores = place(int64_t{tiles.staged} * tiles.pitch, accumulate_bytes);
  layout.bytes = static_cast<int>(bytes);
  return true;
}

// Chooses the size of tiles: as large as lets all classes of three blocks, or of two, fit into a
// multiprocessor; else classes are staged some at a time.
inline bool choose_tile(ArgmaxTiles& tiles, const BilinearShape& shape, int accumulate_bytes,
                        int64_t histogram_bytes) {
  const DeviceLimits limits = device_limits();
  const auto channels = static_cast<int>(shape.channels);
  for (const bool whole : {true, false}) {
    for (int blocks = 3; blocks > (whole ? 1 : 0); --blocks) {
      const int64_t budget =
          blocks == 1 ? limits.shared_bytes_per_block
                      : (limits.shared_bytes_per_block + kSystemBytes) / blocks - kSystemBytes;
      int rows = kMostNodeRows, columns = kMostNodeColumns;
      while (columns >= kFewestNodeColumns) {
        set_nodes(tiles, rows, columns);
        const int64_t count = shape.batch * ceil_divide(tiles.cells_y, tiles.cell_rows) *
                              ceil_divide(tiles.cells_x, tiles.cell_columns);
        const int cells = tiles.cell_rows * tiles.cell_columns;
        const int busy = cells * threads_of_cell(tiles.band);
        if (whole && busy < kThreads / 4) {
          break;
        }
        // With few tiles, make them smaller to reach every multiprocessor, if threads stay busy.
        const bool few =
            count < 2 * limits.multiprocessors && busy > kThreads && columns > kFewestNodeColumns;
        const bool large = cells * tiles.band * tiles.band > kMostTilePixels;
        if (!few && !large &&
            lay_out(tiles, channels, accumulate_bytes, histogram_bytes, budget, whole)) {
          return true;
        }
        // 8 x 32 nodes, 4 x 32, 4 x 16, 2 x 16, 2 x 8, 2 x 4.
        (rows > 2 && 4 * rows >= columns ? rows : columns) /= 2;
      }
    }
  }
  return false;
}

// Returns whether tiles can be made: not if outputs skip nodes, have one node each, or are more
// than kMostBand between two nodes, nor if shared memory is too small.
inline bool make_tiles(const BilinearShape& shape, bool interleaved, int accumulate_bytes,
                       int64_t histogram_bytes, ArgmaxTiles& tiles) {
  const int64_t outputs = larger(most_outputs_of_cell(shape.y), most_outputs_of_cell(shape.x));
  if (has_empty_cells(shape.y) || has_empty_cells(shape.x) || outputs < 2 || outputs > kMostBand) {
    return false;
  }
  // Doubles are rare, so two kernels are enough for them.
  tiles.band = accumulate_bytes == 8 ? 8 : 2;
  while (tiles.band < outputs) {
    tiles.band *= accumulate_bytes == 8 ? 4 : 2;
  }
  const auto cells_of = [](const BilinearAxis& axis, int& first) {
    const BilinearAxis cell = unclamped(axis);
    first = static_cast<int>(bilinear_tap(cell, 0).node);
    return static_cast<int>(bilinear_tap(cell, axis.output_size - 1).node) - first + 1;
  };
  tiles.cells_y = cells_of(shape.y, tiles.first_cell_y);
  tiles.cells_x = cells_of(shape.x, tiles.first_cell_x);
  tiles.interleaved = interleaved;
  tiles.exact_nodes = may_meet_node(shape.y) || may_meet_node(shape.x);
  if (!choose_tile(tiles, shape, accumulate_bytes, histogram_bytes)) {
    return false;
  }
  constexpr int64_t kMostChunkTiles = 16, kItemsOfMultiprocessor = 24;
  tiles.tiles_y = (tiles.cells_y + tiles.cell_rows - 1) / tiles.cell_rows;
  tiles.tiles_x = (tiles.cells_x + tiles.cell_columns - 1) / tiles.cell_columns;
  const int64_t of_block = shape.batch * tiles.tiles_y * tiles.tiles_x /
                           (kItemsOfMultiprocessor * device_limits().multiprocessors);
  tiles.chunk_tiles = static_cast<int>(larger<int64_t>(1, smaller(kMostChunkTiles, of_block)));
  tiles.chunks = (tiles.tiles_y + tiles.chunk_tiles - 1) / tiles.chunk_tiles;
  const int64_t items = shape.batch * tiles.chunks * tiles.tiles_x;
  tiles.items = static_cast<int>(items);
  return items <= kMostBlocks / 2;  // so that a grid's step beyond them does not overflow
}

}  // namespace argmax
}  // namespace fcn_ext
