// Kernels for AVX2 with VNNI, which processors without AVX-512 may have: products of bytes, four at once.
#include "simd_avx2.hpp"

#include "blocks_kernels.hpp"
#include "rows_kernels.hpp"

namespace nestling {
namespace {
struct Vnni : Avx2 {
  using Act = uint8_t;
  static constexpr int kDepth = 4, kShift = 128;
  static NEST_INLINE Words words(const int8_t* p) { return whole(reinterpret_cast<const int32_t*>(p)); }
  static NEST_INLINE Whole spread(const Act* p) { return _mm256_set1_epi32(four_bytes(p)); }
  static NEST_INLINE Whole dot(Whole total, Words words, Whole act) { return _mm256_dpbusd_epi32(total, act, words); }
  static NEST_INLINE void put(Act* p, Float a) {
    const __m256i whole = _mm256_add_epi32(_mm256_cvtps_epi32(a), _mm256_set1_epi32(kShift));
    const __m128i shorts = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(shorts, shorts));
  }
};
}  // namespace

extern const Kernels kAvxVnni;
const Kernels kAvxVnni = {"avx2vnni", add_int8<Vnni>, add_float<Vnni>, pack<Vnni>, read<Vnni>};
}  // namespace nestling
