// Adding up rows of a table: the same bits on every machine.
//
// Each column is added on its own, in the order of the tokens, with a multiplication and an addition that are rounded
// apart (no fused multiply-add); how many columns an instruction takes changes nothing.
#pragma once

#include "bytes.hpp"

namespace nestling {

// sums[d] = sum over i < n of weights[i] * rows[places[i] * stride + d], d < dim; weights may be null: 1.
struct Kernels {
  const char* name;
  void (*add_int8)(const int8_t* rows, size_t stride, const uint32_t* places, const float* weights, size_t n,
                   size_t dim, float* sums);
  void (*add_float)(const float* rows, size_t stride, const uint32_t* places, const float* weights, size_t n,
                    size_t dim, float* sums);
};

inline constexpr size_t kMostRows = 512;  // that a kernel adds at once

// Those of this build that this machine can run, the widest first; ends with a null name.
const Kernels* kernels();

}  // namespace nestling
