// Adding up rows, written once over a type V that stands for a vector register; kernels*.cpp say what that is.
//
// V has kFloats and kShorts lanes;  Float, Short: registers;  float load(const float*), from_int8(const int8_t*),
// all(float), zero(), mul, add, store(float*, Float);  short_from_int8(const int8_t*), short_zero(), short_add,
// spill(int32_t*, Short) which adds a register's lanes to as many int32.
#pragma once

#include "kernels.hpp"

namespace nestling {
namespace {

template <class V, int kRegisters>
NEST_INLINE void float_block(const float* rows, size_t stride, const uint32_t* places, const float* weights, size_t n,
                             float* sums) {
  typename V::Float total[kRegisters];
  for (int r = 0; r < kRegisters; ++r) total[r] = V::zero();
  for (size_t i = 0; i < n; ++i) {
    const float* row = rows + places[i] * stride;
    if (weights) {
      const typename V::Float weight = V::all(weights[i]);
      for (int r = 0; r < kRegisters; ++r) total[r] = V::add(total[r], V::mul(V::load(row + r * V::kFloats), weight));
    } else {
      for (int r = 0; r < kRegisters; ++r) total[r] = V::add(total[r], V::load(row + r * V::kFloats));
    }
  }
  for (int r = 0; r < kRegisters; ++r) V::store(sums + r * V::kFloats, total[r]);
}

template <class V, int kRegisters>
NEST_INLINE void int8_block(const int8_t* rows, size_t stride, const uint32_t* places, const float* weights, size_t n,
                            float* sums) {
  typename V::Float total[kRegisters];
  for (int r = 0; r < kRegisters; ++r) total[r] = V::zero();
  for (size_t i = 0; i < n; ++i) {
    const int8_t* row = rows + places[i] * stride;
    const typename V::Float weight = V::all(weights[i]);
    for (int r = 0; r < kRegisters; ++r)
      total[r] = V::add(total[r], V::mul(V::from_int8(row + r * V::kFloats), weight));
  }
  for (int r = 0; r < kRegisters; ++r) V::store(sums + r * V::kFloats, total[r]);
}

// Whole numbers: 256 int8 fit into an int16, and all of kMostRows into a float, exactly.
template <class V, int kRegisters>
NEST_INLINE void plain_block(const int8_t* rows, size_t stride, const uint32_t* places, size_t n, float* sums) {
  int32_t wide[kRegisters * V::kShorts] = {0};
  for (size_t start = 0; start < n; start += 256) {
    const size_t stop = n - start < 256 ? n : start + 256;
    typename V::Short total[kRegisters];
    for (int r = 0; r < kRegisters; ++r) total[r] = V::short_zero();
    for (size_t i = start; i < stop; ++i) {
      const int8_t* row = rows + places[i] * stride;
      for (int r = 0; r < kRegisters; ++r) total[r] = V::short_add(total[r], V::short_from_int8(row + r * V::kShorts));
    }
    for (int r = 0; r < kRegisters; ++r) V::spill(wide + r * V::kShorts, total[r]);
  }
  for (int d = 0; d < kRegisters * V::kShorts; ++d) sums[d] = static_cast<float>(wide[d]);
}

// The last columns, fewer than a register holds.
template <class T>
void rest(const T* rows, size_t stride, const uint32_t* places, const float* weights, size_t n, size_t from, size_t dim,
          float* sums) {
  for (size_t d = from; d < dim; ++d) {
    float total = 0;
    for (size_t i = 0; i < n; ++i) {
      const float value = static_cast<float>(rows[places[i] * stride + d]);
      total += weights ? value * weights[i] : value;
    }
    sums[d] = total;
  }
}

template <class V>
void add_float(const float* rows, size_t stride, const uint32_t* places, const float* weights, size_t n, size_t dim,
               float* sums) {
  constexpr size_t kWide = V::kRegisters * V::kFloats;
  size_t d = 0;
  for (; d + kWide <= dim; d += kWide) float_block<V, V::kRegisters>(rows + d, stride, places, weights, n, sums + d);
  for (; d + V::kFloats <= dim; d += V::kFloats) float_block<V, 1>(rows + d, stride, places, weights, n, sums + d);
  rest(rows, stride, places, weights, n, d, dim, sums);
}

template <class V>
void add_int8(const int8_t* rows, size_t stride, const uint32_t* places, const float* weights, size_t n, size_t dim,
              float* sums) {
  size_t d = 0;
  if (weights) {
    constexpr size_t kWide = V::kRegisters * V::kFloats;
    for (; d + kWide <= dim; d += kWide) int8_block<V, V::kRegisters>(rows + d, stride, places, weights, n, sums + d);
    for (; d + V::kFloats <= dim; d += V::kFloats) int8_block<V, 1>(rows + d, stride, places, weights, n, sums + d);
  } else {
    constexpr size_t kWide = V::kRegisters * V::kShorts;
    for (; d + kWide <= dim; d += kWide) plain_block<V, V::kRegisters>(rows + d, stride, places, n, sums + d);
    for (; d + V::kShorts <= dim; d += V::kShorts) plain_block<V, 1>(rows + d, stride, places, n, sums + d);
  }
  rest(rows, stride, places, weights, n, d, dim, sums);
}

}  // namespace
}  // namespace nestling
