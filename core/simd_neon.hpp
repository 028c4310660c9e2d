// Registers of NEON.
#pragma once

#include <arm_neon.h>

#include "bytes.hpp"

namespace nestling {
namespace {
struct Neon {
  using Float = float32x4_t;
  using Short = int16x8_t;
  static constexpr int kFloats = 4, kShorts = 8, kRegisters = 16;
  static NEST_INLINE Float load(const float* p) { return vld1q_f32(p); }
  static NEST_INLINE Float from_int8(const int8_t* p) {
    const int16x8_t shorts = vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(four_bytes(p))));
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(shorts)));
  }
  static NEST_INLINE Float all(float x) { return vdupq_n_f32(x); }
  static NEST_INLINE Float zero() { return vdupq_n_f32(0); }
  static NEST_INLINE Float mul(Float a, Float b) { return vmulq_f32(a, b); }
  static NEST_INLINE Float add(Float a, Float b) { return vaddq_f32(a, b); }
  static NEST_INLINE void store(float* p, Float a) { vst1q_f32(p, a); }
  static NEST_INLINE Short short_zero() { return vdupq_n_s16(0); }
  static NEST_INLINE Short short_from_int8(const int8_t* p) { return vmovl_s8(vld1_s8(p)); }
  static NEST_INLINE Short short_add(Short a, Short b) { return vaddq_s16(a, b); }
  static NEST_INLINE void spill(int32_t* p, Short a) {
    vst1q_s32(p, vaddw_s16(vld1q_s32(p), vget_low_s16(a)));
    vst1q_s32(p + 4, vaddw_s16(vld1q_s32(p + 4), vget_high_s16(a)));
  }

  using Act = int16_t;
  using Whole = int32x4_t;
  using Words = int16x8_t;
  static constexpr int kDepth = 2, kShift = 0, kRows = 4, kStrips = 1;
  static NEST_INLINE Float sub(Float a, Float b) { return vsubq_f32(a, b); }
  static NEST_INLINE Float max(Float a, Float b) { return vmaxq_f32(a, b); }
  static NEST_INLINE Float exponent(Float x, Float n) {
    return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(x), vshlq_n_s32(vreinterpretq_s32_f32(n), 23)));
  }
  static NEST_INLINE Words words(const int8_t* p) { return short_from_int8(p); }
  static NEST_INLINE Whole whole(const int32_t* p) { return vld1q_s32(p); }
  static NEST_INLINE Words spread(const Act* p) { return vreinterpretq_s16_s32(vdupq_n_s32(four_bytes(p))); }
  static NEST_INLINE Whole dot(Whole total, Words words, Words act) {
    const int32x4_t low = vmull_s16(vget_low_s16(words), vget_low_s16(act)), high = vmull_high_s16(words, act);
    return vaddq_s32(total, vpaddq_s32(low, high));
  }
  static NEST_INLINE Float to_float(Whole a) { return vcvtq_f32_s32(a); }
  static NEST_INLINE void put(Act* p, Float a) { vst1_s16(p, vmovn_s32(vcvtnq_s32_f32(a))); }
};
}  // namespace
}  // namespace nestling
