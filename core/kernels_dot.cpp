// Kernels for 64-bit ARM with products of bytes, four at once: phones since 2018, Apple's, Graviton since its second.
#include "simd_neon.hpp"

#include "blocks_kernels.hpp"
#include "rows_kernels.hpp"

namespace nestling {
namespace {
struct Dot : Neon {
  using Act = int8_t;
  using Words = int8x16_t;
  static constexpr int kDepth = 4;
  static NEST_INLINE Words words(const int8_t* p) { return vld1q_s8(p); }
  static NEST_INLINE Words spread(const Act* p) { return vreinterpretq_s8_s32(vdupq_n_s32(four_bytes(p))); }
  static NEST_INLINE Whole dot(Whole total, Words words, Words act) { return vdotq_s32(total, words, act); }
  static NEST_INLINE void put(Act* p, Float a) {
    const int16x4_t shorts = vmovn_s32(vcvtnq_s32_f32(a));
    vst1_lane_s32(reinterpret_cast<int32_t*>(p), vreinterpret_s32_s8(vmovn_s16(vcombine_s16(shorts, shorts))), 0);
  }
};
}  // namespace

extern const Kernels kDot;
const Kernels kDot = {"neondot", add_int8<Dot>, add_float<Dot>, pack<Dot>, read<Dot>};
}  // namespace nestling
