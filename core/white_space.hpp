// The characters that Unicode calls White_Space, in valid UTF-8.
#pragma once

#include "bytes.hpp"

namespace nestling {

// The size of the White_Space character at p < end, 0 if there is another.
inline size_t white_space(const uint8_t* p, const uint8_t* end) {
  const size_t left = static_cast<size_t>(end - p);
  if (*p < 0x80) return *p == ' ' || (*p >= 9 && *p <= 13);
  if (*p == 0xC2) return left >= 2 && (p[1] == 0x85 || p[1] == 0xA0) ? 2 : 0;
  if (left < 3 || *p < 0xE1 || *p > 0xE3) return 0;
  const uint32_t code = uint32_t{*p & 15u} << 12 | (p[1] & 63u) << 6 | (p[2] & 63u);
  const bool is = code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 ||
                  code == 0x202F || code == 0x205F || code == 0x3000;
  return is ? 3 : 0;
}

// The size of the White_Space character before p > begin, 0 if there is another.
inline size_t white_space_before(const uint8_t* begin, const uint8_t* p) {
  const uint8_t* start = p - 1;
  while (start > begin && (*start & 0xC0) == 0x80) --start;
  const size_t size = static_cast<size_t>(p - start);
  return white_space(start, p) == size ? size : 0;
}

inline const uint8_t* skip_white_space(const uint8_t* p, const uint8_t* end) {
  while (p < end) {
    const size_t size = white_space(p, end);
    if (size == 0) break;
    p += size;
  }
  return p;
}

inline const uint8_t* drop_white_space(const uint8_t* begin, const uint8_t* end) {
  while (end > begin) {
    const size_t size = white_space_before(begin, end);
    if (size == 0) break;
    end -= size;
  }
  return end;
}

}  // namespace nestling
