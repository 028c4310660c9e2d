// Registers of AVX-512 (F and BW), for the kernels that are compiled with these switched on.
#pragma once

#include <immintrin.h>

#include "bytes.hpp"

namespace nestling {
namespace {
struct Avx512 {
  using Float = __m512;
  using Short = __m512i;
  static constexpr int kFloats = 16, kShorts = 32, kRegisters = 8;
  static NEST_INLINE Float load(const float* p) { return _mm512_loadu_ps(p); }
  static NEST_INLINE Float from_int8(const int8_t* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }
  static NEST_INLINE Float all(float x) { return _mm512_set1_ps(x); }
  static NEST_INLINE Float zero() { return _mm512_setzero_ps(); }
  static NEST_INLINE Float mul(Float a, Float b) { return _mm512_mul_ps(a, b); }
  static NEST_INLINE Float add(Float a, Float b) { return _mm512_add_ps(a, b); }
  static NEST_INLINE void store(float* p, Float a) { _mm512_storeu_ps(p, a); }
  static NEST_INLINE Short short_zero() { return _mm512_setzero_si512(); }
  static NEST_INLINE Short short_from_int8(const int8_t* p) {
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static NEST_INLINE Short short_add(Short a, Short b) { return _mm512_add_epi16(a, b); }
  static NEST_INLINE void spill(int32_t* p, Short a) {
    const __m512i low = _mm512_cvtepi16_epi32(_mm512_castsi512_si256(a));
    const __m512i high = _mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64(a, 1));
    _mm512_storeu_si512(p, _mm512_add_epi32(_mm512_loadu_si512(p), low));
    _mm512_storeu_si512(p + 16, _mm512_add_epi32(_mm512_loadu_si512(p + 16), high));
  }

  using Act = int16_t;
  using Whole = __m512i;
  using Words = __m512i;
  static constexpr int kDepth = 2, kShift = 0, kRows = 4, kStrips = 4;
  static NEST_INLINE Float sub(Float a, Float b) { return _mm512_sub_ps(a, b); }
  static NEST_INLINE Float max(Float a, Float b) { return _mm512_max_ps(a, b); }
  static NEST_INLINE Float exponent(Float x, Float n) {
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(x), _mm512_slli_epi32(_mm512_castps_si512(n), 23)));
  }
  static NEST_INLINE Words words(const int8_t* p) { return short_from_int8(p); }
  static NEST_INLINE Whole whole(const int32_t* p) { return _mm512_loadu_si512(p); }
  static NEST_INLINE Whole spread(const Act* p) { return _mm512_set1_epi32(four_bytes(p)); }
  static NEST_INLINE Whole dot(Whole total, Words words, Whole act) {
    return _mm512_add_epi32(total, _mm512_madd_epi16(words, act));
  }
  static NEST_INLINE Float to_float(Whole a) { return _mm512_cvtepi32_ps(a); }
  static NEST_INLINE void put(Act* p, Float a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(a)));
  }
};
}  // namespace
}  // namespace nestling
