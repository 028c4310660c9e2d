// Registers of AVX2, for the kernels that are compiled with it switched on.
#pragma once

#include <immintrin.h>

#include "bytes.hpp"

namespace nestling {
namespace {
struct Avx2 {
  using Float = __m256;
  using Short = __m256i;
  static constexpr int kFloats = 8, kShorts = 16, kRegisters = 8;
  static NEST_INLINE Float load(const float* p) { return _mm256_loadu_ps(p); }
  static NEST_INLINE Float from_int8(const int8_t* p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
  }
  static NEST_INLINE Float all(float x) { return _mm256_set1_ps(x); }
  static NEST_INLINE Float zero() { return _mm256_setzero_ps(); }
  static NEST_INLINE Float mul(Float a, Float b) { return _mm256_mul_ps(a, b); }
  static NEST_INLINE Float add(Float a, Float b) { return _mm256_add_ps(a, b); }
  static NEST_INLINE void store(float* p, Float a) { _mm256_storeu_ps(p, a); }
  static NEST_INLINE Short short_zero() { return _mm256_setzero_si256(); }
  static NEST_INLINE Short short_from_int8(const int8_t* p) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static NEST_INLINE Short short_add(Short a, Short b) { return _mm256_add_epi16(a, b); }
  static NEST_INLINE void spill(int32_t* p, Short a) {
    __m256i* const out = reinterpret_cast<__m256i*>(p);
    const __m256i low = _mm256_cvtepi16_epi32(_mm256_castsi256_si128(a));
    const __m256i high = _mm256_cvtepi16_epi32(_mm256_extracti128_si256(a, 1));
    _mm256_storeu_si256(out, _mm256_add_epi32(_mm256_loadu_si256(out), low));
    _mm256_storeu_si256(out + 1, _mm256_add_epi32(_mm256_loadu_si256(out + 1), high));
  }

  using Act = int16_t;
  using Whole = __m256i;
  using Words = __m256i;
  static constexpr int kDepth = 2, kShift = 0, kRows = 4, kStrips = 1;
  static NEST_INLINE Float sub(Float a, Float b) { return _mm256_sub_ps(a, b); }
  static NEST_INLINE Float max(Float a, Float b) { return _mm256_max_ps(a, b); }
  static NEST_INLINE Float exponent(Float x, Float n) {
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x), _mm256_slli_epi32(_mm256_castps_si256(n), 23)));
  }
  static NEST_INLINE Words words(const int8_t* p) { return short_from_int8(p); }
  static NEST_INLINE Whole whole(const int32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  static NEST_INLINE Whole spread(const Act* p) { return _mm256_set1_epi32(four_bytes(p)); }
  static NEST_INLINE Whole dot(Whole total, Words words, Whole act) {
    return _mm256_add_epi32(total, _mm256_madd_epi16(words, act));
  }
  static NEST_INLINE Float to_float(Whole a) { return _mm256_cvtepi32_ps(a); }
  static NEST_INLINE void put(Act* p, Float a) {
    const __m256i whole = _mm256_cvtps_epi32(a);
    const __m128i shorts = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), shorts);
  }
};
}  // namespace
}  // namespace nestling
