// Sixteen bytes at once: how many of them begin the text as ASCII letters and digits, and these in lower case.
#pragma once

#include "pieces.hpp"

namespace nestling {

#if NEST_SSE2 || NEST_NEON || NEST_WASM
// 16 ones and 16 zeros; from 16 - k on, a mask of the first k bytes.
alignas(32) inline constexpr uint8_t kFirst[32] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
                                                   255, 255, 255, 255, 255, 0,   0,   0,   0,   0,   0,
                                                   0,   0,   0,   0,   0,   0,   0,   0,   0,   0};
#endif

// Reads 16 bytes. fold: 0x20 to put letters into lower case, 0 to leave them. Returns 0 to 16.
NEST_INLINE size_t scan_word(const uint8_t* p, uint8_t fold, Key& key) {
#if NEST_SSE2
  const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  const __m128i from_a = _mm_sub_epi8(_mm_or_si128(x, _mm_set1_epi8(0x20)), _mm_set1_epi8('a'));
  const __m128i letter = _mm_cmpeq_epi8(_mm_min_epu8(from_a, _mm_set1_epi8(25)), from_a);
  const __m128i from_0 = _mm_sub_epi8(x, _mm_set1_epi8('0'));
  const __m128i digit = _mm_cmpeq_epi8(_mm_min_epu8(from_0, _mm_set1_epi8(9)), from_0);
  const uint32_t others = ~static_cast<uint32_t>(_mm_movemask_epi8(_mm_or_si128(letter, digit)));
  const size_t size = static_cast<size_t>(__builtin_ctz(others));
  const __m128i lower = _mm_or_si128(x, _mm_and_si128(letter, _mm_set1_epi8(static_cast<char>(fold))));
  const __m128i word = _mm_and_si128(lower, _mm_loadu_si128(reinterpret_cast<const __m128i*>(kFirst + 16 - size)));
  key.low = static_cast<uint64_t>(_mm_cvtsi128_si64(word));
  key.high = static_cast<uint64_t>(_mm_cvtsi128_si64(_mm_unpackhi_epi64(word, word)));
  return size;
#elif NEST_NEON
  const uint8x16_t x = vld1q_u8(p);
  const uint8x16_t letter = vcleq_u8(vsubq_u8(vorrq_u8(x, vdupq_n_u8(0x20)), vdupq_n_u8('a')), vdupq_n_u8(25));
  const uint8x16_t digit = vcleq_u8(vsubq_u8(x, vdupq_n_u8('0')), vdupq_n_u8(9));
  const uint8x8_t nibbles = vshrn_n_u16(vreinterpretq_u16_u8(vorrq_u8(letter, digit)), 4);
  const uint64_t others = ~vget_lane_u64(vreinterpret_u64_u8(nibbles), 0);
  const size_t size = others ? static_cast<size_t>(__builtin_ctzll(others)) / 4 : 16;
  const uint8x16_t lower = vorrq_u8(x, vandq_u8(letter, vdupq_n_u8(fold)));
  const uint64x2_t word = vreinterpretq_u64_u8(vandq_u8(lower, vld1q_u8(kFirst + 16 - size)));
  key.low = vgetq_lane_u64(word, 0);
  key.high = vgetq_lane_u64(word, 1);
  return size;
#elif NEST_WASM
  const v128_t x = wasm_v128_load(p);
  const v128_t from_a = wasm_i8x16_sub(wasm_v128_or(x, wasm_i8x16_splat(0x20)), wasm_i8x16_splat('a'));
  const v128_t letter = wasm_u8x16_le(from_a, wasm_i8x16_splat(25));
  const v128_t digit = wasm_u8x16_le(wasm_i8x16_sub(x, wasm_i8x16_splat('0')), wasm_i8x16_splat(9));
  const uint32_t others = ~static_cast<uint32_t>(wasm_i8x16_bitmask(wasm_v128_or(letter, digit)));
  const size_t size = static_cast<size_t>(__builtin_ctz(others));
  const v128_t lower = wasm_v128_or(x, wasm_v128_and(letter, wasm_i8x16_splat(static_cast<int8_t>(fold))));
  const v128_t word = wasm_v128_and(lower, wasm_v128_load(kFirst + 16 - size));
  key.low = static_cast<uint64_t>(wasm_i64x2_extract_lane(word, 0));
  key.high = static_cast<uint64_t>(wasm_i64x2_extract_lane(word, 1));
  return size;
#else
  uint8_t word[16] = {0};
  size_t size = 0;
  for (; size < 16; ++size) {
    const bool letter = static_cast<uint8_t>((p[size] | 0x20) - 'a') < 26;
    if (!letter && static_cast<uint8_t>(p[size] - '0') > 9) break;
    word[size] = static_cast<uint8_t>(p[size] | (letter ? fold : 0));
  }
  memcpy(&key.low, word, 8);
  memcpy(&key.high, word + 8, 8);
  return size;
#endif
}

}  // namespace nestling
