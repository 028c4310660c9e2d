// Kernels for AVX2: compiled with it switched on, and run only where the machine has it.
#include <immintrin.h>

#include "rows_kernels.hpp"

namespace nestling {
namespace {
struct V {
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
};
}  // namespace

extern const Kernels kAvx2;
const Kernels kAvx2 = {"avx2", add_int8<V>, add_float<V>};
}  // namespace nestling
