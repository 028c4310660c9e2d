// Kernels for AVX-512 with VNNI, which adds up products of bytes, four at once.
#include "simd_avx512.hpp"

#include "blocks_kernels.hpp"
#include "rows_kernels.hpp"

namespace nestling {
namespace {
struct Vnni : Avx512 {
  using Act = uint8_t;
  static constexpr int kDepth = 4, kShift = 128;
  static NEST_INLINE Words words(const int8_t* p) { return _mm512_loadu_si512(p); }
  static NEST_INLINE Whole spread(const Act* p) { return _mm512_set1_epi32(four_bytes(p)); }
  static NEST_INLINE Whole dot(Whole total, Words words, Whole act) { return _mm512_dpbusd_epi32(total, act, words); }
  static NEST_INLINE void put(Act* p, Float a) {
    const __m512i shifted = _mm512_add_epi32(_mm512_cvtps_epi32(a), _mm512_set1_epi32(kShift));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(shifted));
  }
};
}  // namespace

extern const Kernels kVnni;
const Kernels kVnni = {"avx512vnni", add_int8<Vnni>, add_float<Vnni>, pack<Vnni>, read<Vnni>};
}  // namespace nestling
