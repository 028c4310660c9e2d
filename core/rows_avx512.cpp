// Kernels for AVX-512 (F and BW): compiled with these switched on, and run only where the machine has them.
#include <immintrin.h>

#include "rows_kernels.hpp"

namespace nestling {
namespace {
struct V {
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
};
}  // namespace

extern const Kernels kAvx512;
const Kernels kAvx512 = {"avx512", add_int8<V>, add_float<V>};
}  // namespace nestling
