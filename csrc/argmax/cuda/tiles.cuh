// How the prediction kernels cut an output into cells and tiles, and what a tile keeps in shared
// memory.
//
// A cell is the part of the output that lies between the same four nodes: one band of rows by one
// band of columns, at most `band` of each. Cells run from the node before the first to the last
// one; what lies outside the input is staged as zeros with a weight of zero (clamped border) or
// with its own weight (zero border), so that every pixel of a cell reads all four nodes alike.
#pragma once

#include "bilinear/bilinear.h"
#include "cells/cuda/weights.cuh"
#include "common/cuda/launch.cuh"

namespace fcn_ext {
namespace argmax {

constexpr int kThreads = 256;
constexpr int kMostCellRows = 4;  // of a tile
constexpr int kMostCellColumns = 32;
constexpr int kFewestCellColumns = 4;
constexpr int kFewestClasses = 32;  // of a stage, if there are as many
constexpr int kDominators = 4;
constexpr int kMostBand = 32;
constexpr int kSystemBytes = 1024;  // of shared memory, of every block
constexpr int kMixed = -1;          // instead of the class of a cell

// Blocks of a multiprocessor that registers have to allow.
template <typename accumulate_t>
constexpr int kBlocks = sizeof(accumulate_t) == 4 ? 3 : 2;

// Shared memory of a tile: where each array starts, in bytes.
struct TileLayout {
  int scores;         // (staged, pitch) accumulate_t: the nodes of the tile, class by class
  int best, second;   // (parts, nodes) accumulate_t: the two largest scores of a node
  int best_class;     // (parts, nodes) int32
  int dominators;     // (cells, kDominators) Dominator: kept from stage to stage of classes
  int column_weight;  // (columns) CellWeights
  int row_weight;     // (rows) CellWeights
  int column_begin;   // (cell columns + 1) int32, outputs
  int row_begin;      // (cell rows + 1) int32
  int winner;         // (cell rows, cell columns) int32: the class of a whole cell, or kMixed
  int survivors;      // (cells, staged / 32) uint32: the classes that may win in a mixed cell
  int chunk;          // (2) int32: the chunk's item, and the cell row behind it
  int mixed_count;    // int32
  int mixed;          // (cells) uint16: the mixed cells
  int labels;         // (rows, columns) uint16: winners of the pixels of mixed cells
  int column_cell;    // (columns) uint8: the cell of a column
  int row_cell;       // (rows) uint8
  int bytes;
};

struct ArgmaxTiles {
  int first_cell_y, first_cell_x;
  int cells_y, cells_x;
  int band;
  int cell_rows, cell_columns;  // of a tile
  int nodes;                    // of a tile
  int pitch;   // of a class in shared memory: odd, so that classes of a node lie in all banks
  int parts;   // threads that share a node
  int staged;  // classes in shared memory at a time: all, or a multiple of 32
  int stages;
  int tiles_x, tiles_y;
  int chunk_tiles;  // tiles that a block walks down
  int chunks;
  int items;         // chunks of all tile columns of all images
  bool interleaved;  // channels lie side by side
  bool exact_nodes;  // an output may lie on a node
  TileLayout layout;
};

// How the pixels of a cell are dealt to threads: kColumns columns of kRows rows each.
template <int band>
struct CellThreads {
  static constexpr int kColumns = band < 8 ? 2 : 1;
  static constexpr int kRows = band < 8 ? band : 8;
  static constexpr int kAcross = band / kColumns;
  static constexpr int kAll = kAcross * (band / kRows);
};
inline int threads_of_cell(int band) { return band < 8 ? band / 2 : band * band / 8; }

// Places the arrays of a tile behind a histogram; `staged` is the number of classes if one holds
// them all, else as many as fit into `budget`. False where too few do.
inline bool lay_out(ArgmaxTiles& tiles, int channels, int accumulate_bytes, int64_t histogram_bytes,
                    int64_t budget, bool whole) {
  const int cells = tiles.cell_rows * tiles.cell_columns;
  const int rows = tiles.cell_rows * tiles.band, columns = tiles.cell_columns * tiles.band;
  tiles.nodes = (tiles.cell_rows + 1) * (tiles.cell_columns + 1);
  tiles.pitch = tiles.nodes | 1;
  tiles.parts = larger(1, kThreads / tiles.nodes);
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
  layout.dominators = place(whole ? 0 : cells * kDominators, 5 * accumulate_bytes);
  layout.column_weight = place(columns, 2 * accumulate_bytes);
  layout.row_weight = place(rows, 2 * accumulate_bytes);
  layout.column_begin = place(tiles.cell_columns + 1, 4);
  layout.row_begin = place(tiles.cell_rows + 1, 4);
  layout.winner = place(cells, 4);
  layout.chunk = place(2, 4);
  layout.mixed_count = place(1, 4);
  layout.mixed = place(cells, 2);
  layout.labels = place(int64_t{rows} * columns, 2);
  layout.column_cell = place(columns, 1);
  layout.row_cell = place(rows, 1);
  // What is left goes to classes: their scores, and a bit for each cell.
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

// Chooses the tiles' size: large ones, that all classes of three or two blocks fit into a
// multiprocessor; else classes come in stages.
inline bool choose_tile(ArgmaxTiles& tiles, const BilinearShape& shape, int accumulate_bytes,
                        int64_t histogram_bytes) {
  const DeviceLimits limits = device_limits();
  const auto channels = static_cast<int>(shape.channels);
  for (const bool whole : {true, false}) {
    for (int blocks = 3; blocks > (whole ? 1 : 0); --blocks) {
      const int64_t budget =
          blocks == 1 ? limits.shared_bytes_per_block
                      : (limits.shared_bytes_per_block + kSystemBytes) / blocks - kSystemBytes;
      tiles.cell_rows = larger(1, smaller(kMostCellRows, kMostBand / tiles.band));
      tiles.cell_columns = smaller(kMostCellColumns, 8 * kMostBand / tiles.band);
      while (tiles.cell_columns >= kFewestCellColumns) {
        const int64_t count = shape.batch * ceil_divide(tiles.cells_y, tiles.cell_rows) *
                              ceil_divide(tiles.cells_x, tiles.cell_columns);
        const int busy = tiles.cell_rows * tiles.cell_columns * threads_of_cell(tiles.band);
        if (whole && busy < kThreads / 4) {
          break;
        }
        // Few tiles are made smaller, to reach every multiprocessor, if threads stay busy.
        const bool few = count < 2 * limits.multiprocessors && busy > kThreads &&
                         tiles.cell_columns > kFewestCellColumns;
        if (!few && lay_out(tiles, channels, accumulate_bytes, histogram_bytes, budget, whole)) {
          return true;
        }
        (tiles.cell_rows > 1 ? tiles.cell_rows : tiles.cell_columns) /= 2;
      }
    }
  }
  return false;
}

// Whether tiles can be made: not where outputs skip nodes, lie on one each, or are more than
// kMostBand between two, nor where shared memory is too small.
inline bool make_tiles(const BilinearShape& shape, bool interleaved, int accumulate_bytes,
                       int64_t histogram_bytes, ArgmaxTiles& tiles) {
  const int64_t outputs = larger(most_outputs_of_cell(shape.y), most_outputs_of_cell(shape.x));
  if (has_empty_cells(shape.y) || has_empty_cells(shape.x) || outputs < 2 || outputs > kMostBand) {
    return false;
  }
  // Doubles are rare: two kernels do for them.
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
  return items <= kMostBlocks / 2;  // so that a grid's step beyond them is no overflow
}

}  // namespace argmax
}  // namespace fcn_ext
