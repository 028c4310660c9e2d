// Kernels in plain C++, for machines without any of the others; what they take is tested on all.
#include <array>

#include "blocks_kernels.hpp"
#include "rows_kernels.hpp"

namespace nestling {
namespace {
struct Plain {
  using Float = float;
  using Short = int16_t;
  static constexpr int kFloats = 1, kShorts = 1, kRegisters = 16;
  static NEST_INLINE Float load(const float* p) { return *p; }
  static NEST_INLINE Float from_int8(const int8_t* p) { return static_cast<float>(*p); }
  static NEST_INLINE Float all(float x) { return x; }
  static NEST_INLINE Float zero() { return 0; }
  static NEST_INLINE Float mul(Float a, Float b) { return a * b; }
  static NEST_INLINE Float add(Float a, Float b) { return a + b; }
  static NEST_INLINE void store(float* p, Float a) { *p = a; }
  static NEST_INLINE Short short_zero() { return 0; }
  static NEST_INLINE Short short_from_int8(const int8_t* p) { return *p; }
  static NEST_INLINE Short short_add(Short a, Short b) { return static_cast<Short>(a + b); }
  static NEST_INLINE void spill(int32_t* p, Short a) { *p += a; }

  using Act = int16_t;
  using Whole = int32_t;
  using Words = std::array<int32_t, 2>;
  static constexpr int kDepth = 2, kShift = 0, kRows = 1, kStrips = 1;
  static NEST_INLINE Float sub(Float a, Float b) { return a - b; }
  static NEST_INLINE Float max(Float a, Float b) { return a > b ? a : b; }
  static NEST_INLINE Float exponent(Float x, Float n) {
    uint32_t bits, more;
    memcpy(&bits, &x, 4), memcpy(&more, &n, 4);
    bits += more << 23;
    memcpy(&x, &bits, 4);
    return x;
  }
  static NEST_INLINE Words words(const int8_t* p) { return {p[0], p[1]}; }
  static NEST_INLINE Whole whole(const int32_t* p) { return *p; }
  static NEST_INLINE Words spread(const Act* p) { return {p[0], p[1]}; }
  static NEST_INLINE Whole dot(Whole total, Words words, Words act) {
    return total + words[0] * act[0] + words[1] * act[1];
  }
  static NEST_INLINE Float to_float(Whole a) { return static_cast<float>(a); }
  static NEST_INLINE void put(Act* p, Float a) {  // what is no number is kept out of whole ones
    *p = a > -128 && a < 128 ? static_cast<Act>(std::nearbyint(a)) : 0;
  }
};
}  // namespace

extern const Kernels kPlain;
const Kernels kPlain = {"plain", add_int8<Plain>, add_float<Plain>, pack<Plain>, read<Plain>};
}  // namespace nestling
