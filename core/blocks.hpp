// The blocks of a small transformer, which look at a whole text and say what each of its tokens weighs; and what they
// need. Matrices are multiplied in whole numbers, a token's columns rounded to 8 bits of their own largest.
//
// model/twin.py has the same in numpy, to the bit, and says what each step is. All columns are multiples of kStrip.
// Kernels see pointers alone: a function of a class that they compiled might be run on a machine that lacks what they use.
#pragma once

#include "kernels.hpp"

namespace nestling {

inline constexpr size_t kStrip = 16;  // columns that a kernel works on at once, whatever its registers hold
inline constexpr size_t kTile = 32;   // tokens whose columns within stay near

// Products are sums of whole numbers times the scale of the token and that of the column, plus the bias, if there is one.
struct Matrix {
  size_t in = 0, out = 0;           // 0: there is no such matrix
  const int8_t* values = nullptr;   // as Kernels::pack lays them out
  const int32_t* starts = nullptr;  // what the sum of a column starts from
  const float *scales = nullptr, *bias = nullptr;
};

// To unit variance around the mean, with a bias; without one, to a mean square of one. Without weights, they are ones.
struct Norm {
  const float *weights = nullptr, *bias = nullptr;
  float epsilon = 0;
};

struct Block {
  Matrix queries_keys_values, attended, wide, narrow;
  Norm attention, feed;  // before these, where positions are rotary; else behind the sum with what went in
};

struct Blocks {
  size_t stride = 0;           // columns of a token's row
  size_t inner = 0;            // those, from the first on, that are weighed and added up; 0 for none
  size_t first = 0, seen = 0;  // those that the blocks see: from where, how many
  size_t dim = 0, head = 0;    // columns within, and of an attention head
  size_t longest = 0;          // tokens of a piece
  float scale = 0;             // of the nearness of two tokens
  Matrix up, back, out;        // from what is seen; from the sum of what the blocks give: added, or instead
  Norm seeing, input, last;    // of what is seen; of what goes in; of what comes out, where positions are rotary
  const Block* blocks = nullptr;
  size_t layers = 0;
  const float* weigh = nullptr;                      // of the columns within: what a row weighs beside one
  bool rotary = true;                                // else positions are added
  const float *cosines = nullptr, *sines = nullptr;  // (longest, head / 2) of rotary positions
  const float* places = nullptr;                     // (longest, dim) of others
  size_t vector = 0;                                 // columns of what comes out
};

// Tokens of n pieces of texts end to end, piece i from starts[i] to starts[i + 1], counted from 0: the row of each, times
// its weight, and that weight, which counts for what the blocks say of it too.
struct Batch {
  const float *rows, *weights;
  const int64_t* starts;
  size_t n;
};

// Room for work on some pieces at once.
struct BlocksRoom {
  float *x, *held, *joined, *mixed, *wide, *keys, *near, *sizes;
  uint8_t* acts;
};

}  // namespace nestling
