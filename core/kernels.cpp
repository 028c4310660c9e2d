// The kernels that every machine of an architecture has, with 128 bits, and the choice among all.
#include "simd.hpp"
#if NEST_NEON
#include "simd_neon.hpp"
#endif
#if NEST_DOT && defined(__APPLE__)
#include <sys/sysctl.h>
#elif NEST_DOT
#include <sys/auxv.h>
#endif

#if NEST_WASM && !defined(NEST_TRANSFORMER)
#define NEST_ROWS_ONLY  // what goes over the wire for static models
#else
#include "blocks_kernels.hpp"
#endif
#include "rows_kernels.hpp"

namespace nestling {
namespace {

#if NEST_SSE2
constexpr const char* kName = "sse2";
struct V {
  using Float = __m128;
  using Short = __m128i;
  static constexpr int kFloats = 4, kShorts = 8, kRegisters = 8;
  static NEST_INLINE Float load(const float* p) { return _mm_loadu_ps(p); }
  static NEST_INLINE Float from_int8(const int8_t* p) {
    const __m128i bytes = _mm_cvtsi32_si128(four_bytes(p));
    const __m128i shorts = _mm_unpacklo_epi8(bytes, bytes);
    return _mm_cvtepi32_ps(_mm_srai_epi32(_mm_unpacklo_epi16(shorts, shorts), 24));
  }
  static NEST_INLINE Float all(float x) { return _mm_set1_ps(x); }
  static NEST_INLINE Float zero() { return _mm_setzero_ps(); }
  static NEST_INLINE Float mul(Float a, Float b) { return _mm_mul_ps(a, b); }
  static NEST_INLINE Float add(Float a, Float b) { return _mm_add_ps(a, b); }
  static NEST_INLINE void store(float* p, Float a) { _mm_storeu_ps(p, a); }
  static NEST_INLINE Short short_zero() { return _mm_setzero_si128(); }
  static NEST_INLINE Short short_from_int8(const int8_t* p) {
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
    return _mm_srai_epi16(_mm_unpacklo_epi8(bytes, bytes), 8);
  }
  static NEST_INLINE Short short_add(Short a, Short b) { return _mm_add_epi16(a, b); }
  static NEST_INLINE void spill(int32_t* p, Short a) {
    __m128i* const out = reinterpret_cast<__m128i*>(p);
    const __m128i low = _mm_srai_epi32(_mm_unpacklo_epi16(a, a), 16);
    const __m128i high = _mm_srai_epi32(_mm_unpackhi_epi16(a, a), 16);
    _mm_storeu_si128(out, _mm_add_epi32(_mm_loadu_si128(out), low));
    _mm_storeu_si128(out + 1, _mm_add_epi32(_mm_loadu_si128(out + 1), high));
  }

  using Act = int16_t;
  using Whole = __m128i;
  using Words = __m128i;
  static constexpr int kDepth = 2, kShift = 0, kRows = 2, kStrips = 1;
  static NEST_INLINE Float sub(Float a, Float b) { return _mm_sub_ps(a, b); }
  static NEST_INLINE Float max(Float a, Float b) { return _mm_max_ps(a, b); }
  static NEST_INLINE Float exponent(Float x, Float n) {
    return _mm_castsi128_ps(_mm_add_epi32(_mm_castps_si128(x), _mm_slli_epi32(_mm_castps_si128(n), 23)));
  }
  static NEST_INLINE Words words(const int8_t* p) { return short_from_int8(p); }
  static NEST_INLINE Whole whole(const int32_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
  static NEST_INLINE Whole spread(const Act* p) { return _mm_set1_epi32(four_bytes(p)); }
  static NEST_INLINE Whole dot(Whole total, Words words, Whole act) {
    return _mm_add_epi32(total, _mm_madd_epi16(words, act));
  }
  static NEST_INLINE Float to_float(Whole a) { return _mm_cvtepi32_ps(a); }
  static NEST_INLINE void put(Act* p, Float a) {
    const __m128i whole = _mm_cvtps_epi32(a);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi32(whole, whole));
  }
};
#elif NEST_NEON
constexpr const char* kName = "neon";
using V = Neon;
#elif NEST_WASM
constexpr const char* kName = "simd128";
struct V {
  using Float = v128_t;
  using Short = v128_t;
  static constexpr int kFloats = 4, kShorts = 8, kRegisters = 8;
  static NEST_INLINE Float load(const float* p) { return wasm_v128_load(p); }
  static NEST_INLINE Float from_int8(const int8_t* p) {
    return to_float(wasm_i32x4_extend_low_i16x8(wasm_i16x8_extend_low_i8x16(wasm_v128_load32_zero(p))));
  }
  // clang 14 makes one conversion a lane of extending and converting together; behind the asm it sees only the latter.
  static NEST_INLINE Float to_float(v128_t whole) {
    asm("" : "+r"(whole));
    return wasm_f32x4_convert_i32x4(whole);
  }
  static NEST_INLINE Float all(float x) { return wasm_f32x4_splat(x); }
  static NEST_INLINE Float zero() { return wasm_f32x4_splat(0); }
  static NEST_INLINE Float mul(Float a, Float b) { return wasm_f32x4_mul(a, b); }
  static NEST_INLINE Float add(Float a, Float b) { return wasm_f32x4_add(a, b); }
  static NEST_INLINE void store(float* p, Float a) { wasm_v128_store(p, a); }
  static NEST_INLINE Short short_zero() { return wasm_i16x8_splat(0); }
  static NEST_INLINE Short short_from_int8(const int8_t* p) { return wasm_i16x8_load8x8(p); }
  static NEST_INLINE Short short_add(Short a, Short b) { return wasm_i16x8_add(a, b); }
  static NEST_INLINE void spill(int32_t* p, Short a) {
    wasm_v128_store(p, wasm_i32x4_add(wasm_v128_load(p), wasm_i32x4_extend_low_i16x8(a)));
    wasm_v128_store(p + 4, wasm_i32x4_add(wasm_v128_load(p + 4), wasm_i32x4_extend_high_i16x8(a)));
  }

  using Act = int16_t;
  using Whole = v128_t;
  using Words = v128_t;
  static constexpr int kDepth = 2, kShift = 0, kRows = 2, kStrips = 1;
  static NEST_INLINE Float sub(Float a, Float b) { return wasm_f32x4_sub(a, b); }
  static NEST_INLINE Float max(Float a, Float b) { return wasm_f32x4_max(a, b); }
  static NEST_INLINE Float exponent(Float x, Float n) { return wasm_i32x4_add(x, wasm_i32x4_shl(n, 23)); }
  static NEST_INLINE Words words(const int8_t* p) { return short_from_int8(p); }
  static NEST_INLINE Whole whole(const int32_t* p) { return wasm_v128_load(p); }
  static NEST_INLINE Whole spread(const Act* p) { return wasm_v128_load32_splat(p); }
  static NEST_INLINE Whole dot(Whole total, Words words, Whole act) {
    return wasm_i32x4_add(total, wasm_i32x4_dot_i16x8(words, act));
  }
  static NEST_INLINE void put(Act* p, Float a) {
    const v128_t whole = wasm_i32x4_trunc_sat_f32x4(wasm_f32x4_nearest(a));
    wasm_v128_store64_lane(p, wasm_i16x8_narrow_i32x4(whole, whole), 0);
  }
};

// Eight columns a load: a third less time than four, which is what the general one takes.
template <>
NEST_INLINE void int8_block<V, V::kRegisters>(const int8_t* rows, size_t stride, const uint32_t* places,
                                              const float* weights, size_t n, float* sums) {
  v128_t total[V::kRegisters];
  for (v128_t& each : total) each = V::zero();
  for (size_t i = 0; i < n; ++i) {
    const int8_t* row = rows + places[i] * stride;
    const v128_t weight = V::all(weights[i]);
    for (int r = 0; r < V::kRegisters; r += 2) {
      const v128_t shorts = wasm_i16x8_load8x8(row + r * V::kFloats);
      total[r] = V::add(total[r], V::mul(V::to_float(wasm_i32x4_extend_low_i16x8(shorts)), weight));
      total[r + 1] = V::add(total[r + 1], V::mul(V::to_float(wasm_i32x4_extend_high_i16x8(shorts)), weight));
    }
  }
  for (int r = 0; r < V::kRegisters; ++r) V::store(sums + r * V::kFloats, total[r]);
}
#endif

}  // namespace

#if NEST_WIDE
extern const Kernels kAvx2, kAvx512, kVnni;
#endif
#if NEST_AVXVNNI
extern const Kernels kAvxVnni;
#endif
#if NEST_DOT
extern const Kernels kDot;

// Whether the machine has products of bytes.
static bool has_dot() {
#ifdef __APPLE__
  int found = 0;
  size_t size = sizeof found;
  return sysctlbyname("hw.optional.arm.FEAT_DotProd", &found, &size, nullptr, 0) == 0 && found;
#else
  return getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
#endif
}
#endif
extern const Kernels kPlain;

const Kernels* kernels() {
  static Kernels found[7];
  static const bool filled = [] {
    Kernels* next = found;
#if NEST_WIDE
    __builtin_cpu_init();
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
    if (avx512 && __builtin_cpu_supports("avx512vnni")) *next++ = kVnni;
    if (avx512) *next++ = kAvx512;
    const bool avx2 = __builtin_cpu_supports("avx2");
#if NEST_AVXVNNI
    if (avx2 && __builtin_cpu_supports("avxvnni")) *next++ = kAvxVnni;
#endif
    if (avx2) *next++ = kAvx2;
#endif
#if NEST_DOT
    if (has_dot()) *next++ = kDot;
#endif
#ifdef NEST_ROWS_ONLY
    *next++ = {kName, add_int8<V>, add_float<V>, nullptr, nullptr};
#else
#if NEST_128
    *next++ = {kName, add_int8<V>, add_float<V>, pack<V>, read<V>};
#endif
#if !NEST_WASM
    *next++ = kPlain;
#endif
#endif
    *next = {};
    return true;
  }();
  (void)filled;
  return found;
}

}  // namespace nestling
