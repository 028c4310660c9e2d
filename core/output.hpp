// What a user may ask for, and the way there from sums of rows: unit length, float32, float16, int8 or one bit a column.
#pragma once

#include <cmath>

#include "bytes.hpp"

namespace nestling {

enum class Dtype : int { Float32, Float16, Int8, Binary };

inline size_t row_bytes(Dtype dtype, size_t dim) {
  return dtype == Dtype::Float32   ? dim * 4
         : dtype == Dtype::Float16 ? dim * 2
         : dtype == Dtype::Int8    ? dim
                                   : (dim + 7) / 8;
}

struct EncodeOptions {
  static constexpr size_t kNoTask = SIZE_MAX;
  size_t dim = 0;
  size_t limit = SIZE_MAX;  // tokens of a text, that of its task among them
  bool stop_at_cut = false;
  bool normalize = true;
  Dtype dtype = Dtype::Float32;
  size_t task = kNoTask;  // a transformer's token before each text
};

struct EncodeResult {
  size_t cut = 0;         // texts that had more tokens than the limit
  size_t bad = SIZE_MAX;  // the first text that could not be had, or that was cut where that is an error
  bool finite = true;     // or one whose sums are not finite, which are a damaged transformer's
};

// Writes a vector at unit length, zeros if it is zeros. Sixteen partial sums of squares, whatever the machine: the same
// bits everywhere. out may be sums.
inline void put_unit(const float* sums, size_t dim, float* out) {
  float parts[16] = {0};
  size_t d = 0;
  for (; d + 16 <= dim; d += 16)
    for (size_t k = 0; k < 16; ++k) parts[k] += sums[d + k] * sums[d + k];
  for (size_t k = 0; k < 16 && d < dim; ++d, ++k) parts[k] += sums[d] * sums[d];
  for (size_t half = 8; half > 0; half /= 2)
    for (size_t k = 0; k < half; ++k) parts[k] += parts[k + half];
  if (parts[0] > 1e-20f && parts[0] < 1e30f) {
    const float inverse = 1.0f / std::sqrt(parts[0]);
    for (d = 0; d < dim; ++d) out[d] = sums[d] * inverse;
    return;
  }
  double total = 0;  // squares that float32 cannot hold
  for (d = 0; d < dim; ++d) total += static_cast<double>(sums[d]) * sums[d];
  const double inverse = total > 0 ? 1.0 / std::sqrt(total) : 0;
  for (d = 0; d < dim; ++d) out[d] = static_cast<float>(sums[d] * inverse);
}

// IEEE half precision, rounded to nearest, ties to even.
inline uint16_t to_half(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  const uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7FFFFFFF;
  if (magnitude >= 0x47800000) return static_cast<uint16_t>(sign | (magnitude > 0x7F800000 ? 0x7E00 : 0x7C00));
  if (magnitude < 0x38800000) {  // below the smallest normal half: a multiple of 2^-24
    float size;
    memcpy(&size, &magnitude, 4);
    return static_cast<uint16_t>(sign | static_cast<uint32_t>(std::nearbyint(size * 16777216.0f)));
  }
  return static_cast<uint16_t>(sign | (magnitude - 0x38000000 + 0xFFF + (magnitude >> 13 & 1)) >> 13);
}

// Writes a vector. sums: of `count` rows, changed on the way. normalize: to unit length; else their mean.
inline void put_vector(float* sums, size_t dim, size_t count, bool normalize, Dtype dtype, void* out) {
  if (dtype == Dtype::Binary) {
    uint8_t* bits = static_cast<uint8_t*>(out);
    memset(bits, 0, (dim + 7) / 8);
    for (size_t d = 0; d < dim; ++d) bits[d / 8] |= static_cast<uint8_t>((sums[d] > 0) << (7 - d % 8));
    return;
  }
  if (dtype == Dtype::Int8) {
    float largest = 0;
    for (size_t d = 0; d < dim; ++d) largest = std::fmax(largest, std::fabs(sums[d]));
    const float scale = largest > 1e-36f ? 127.0f / largest : 0;  // so small a vector is zeros
    int8_t* bytes = static_cast<int8_t*>(out);
    for (size_t d = 0; d < dim; ++d) bytes[d] = static_cast<int8_t>(std::nearbyint(sums[d] * scale));
    return;
  }
  float* floats = dtype == Dtype::Float32 ? static_cast<float*>(out) : sums;
  const float size = count > 0 ? static_cast<float>(count) : 1.0f;
  if (normalize)
    put_unit(sums, dim, floats);
  else
    for (size_t d = 0; d < dim; ++d) floats[d] = sums[d] / size;
  if (dtype == Dtype::Float16)
    for (size_t d = 0; d < dim; ++d) static_cast<uint16_t*>(out)[d] = to_half(floats[d]);
}

}  // namespace nestling
