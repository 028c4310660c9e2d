// What is worth a machine's widest instructions: adding up rows of a table, and the blocks of a transformer. The same bits
// on every machine: each column is added on its own, in one order, with a multiplication and an addition that are rounded
// apart (no fused multiply-add), or in whole numbers; how many columns an instruction takes changes nothing.
#pragma once

#include "bytes.hpp"

namespace nestling {

struct Blocks;
struct BlocksRoom;
struct Batch;

struct Kernels {
  const char* name;
  // sums[d] = sum over i < n of weights[i] * rows[places[i] * stride + d], d < dim; weights may be null: 1.
  void (*add_int8)(const int8_t* rows, size_t stride, const uint32_t* places, const float* weights, size_t n,
                   size_t dim, float* sums);
  void (*add_float)(const float* rows, size_t stride, const uint32_t* places, const float* weights, size_t n,
                    size_t dim, float* sums);
  // Lays out a matrix, (in, out) int8, as the blocks of these kernels read it: as many values, and `out` starts.
  void (*pack)(const int8_t* matrix, size_t in, size_t out, int8_t* values, int32_t* starts);
  // The sums of pieces of texts: (n, columns of a vector), to be filled.
  void (*read)(const Blocks& blocks, const Batch& batch, const BlocksRoom& room, float* sums);
};

inline constexpr size_t kMostRows = 512;  // of which a kernel adds the sum at once

// Those of this build that this machine can run, the widest first; ends with a null name.
const Kernels* kernels();

}  // namespace nestling
