// What a tokenizer's normalizer and splitter do to each code point, as the reference does it.
//
// The tables are derived from the reference by derive/codepoints.py, which also says how the bytes are to be read. They
// are unfolded once a process into two stages: blocks of 128 code points, of which most are alike.
#pragma once

#include <vector>

#include "bytes.hpp"

namespace nestling {

// What becomes of a code point. Many: several items, each with a kind of its own. Hangul: its two or three letters.
enum class Kind : uint32_t { Keep, Drop, Space, Punctuation, Alone, Many, Hangul };

struct Item {
  Kind kind;
  uint32_t code;
};

class CodePoints {
 public:
  CodePoints(const uint8_t* raw, size_t size) { unfold(raw, raw + size); }

  Item operator[](uint32_t code) const {
    const int32_t entry = blocks_[size_t{stages_[code >> kBits]} << kBits | (code & kMask)];
    return {static_cast<Kind>(entry & 7), code + static_cast<uint32_t>(entry >> 3)};
  }

  // The items of a code point whose kind is Many, or of a Hangul syllable: written to `out`, at most kMost.
  static constexpr size_t kMost = 20;
  size_t expand(uint32_t code, Kind kind, Item* out) const {
    if (kind == Kind::Hangul) return jamo(code - 0xAC00, out);
    const int32_t entry = blocks_[size_t{stages_[code >> kBits]} << kBits | (code & kMask)];
    const size_t start = static_cast<size_t>(entry >> 3);
    const size_t count = items_[start].code;
    for (size_t i = 0; i < count; ++i) out[i] = items_[start + 1 + i];
    return count;
  }

 private:
  static constexpr uint32_t kBits = 7, kMask = (1u << kBits) - 1, kEnd = 0x110000;

  static size_t jamo(uint32_t index, Item* out) {
    out[0] = {Kind::Keep, 0x1100 + index / 588};
    out[1] = {Kind::Keep, 0x1161 + index % 588 / 28};
    out[2] = {Kind::Keep, 0x11A7 + index % 28};
    return index % 28 ? 3 : 2;
  }

  static uint32_t leb128(const uint8_t*& p) {
    uint32_t number = 0;
    for (int shift = 0;; shift += 7) {
      number |= uint32_t{*p & 127u} << shift;
      if (*p++ < 128) return number;
    }
  }

  // The tables are ours, part of the program: they are read without checks.
  void unfold(const uint8_t* p, const uint8_t* end) {
    stages_.assign(kEnd >> kBits, 0);
    std::vector<int32_t> constants;  // value of each block that is one value throughout, -1 where it is not
    for (uint32_t code = 0; p < end;) {
      const uint32_t head = leb128(p);
      const uint32_t stop = code + (head >> 3);
      const int32_t entry =
          static_cast<int32_t>(payload(static_cast<Kind>(head & 7), p) * 8 + static_cast<int32_t>(head & 7));
      while (code < stop) {
        const uint32_t within = code & kMask;
        if (within == 0 && stop - code > kMask) {
          stages_[code >> kBits] = constant_block(entry, constants);
          code += kMask + 1;
          continue;
        }
        if (within == 0) {
          stages_[code >> kBits] = static_cast<uint16_t>(constants.size());
          constants.push_back(-1);
          blocks_.resize(blocks_.size() + kMask + 1);
        }
        blocks_[size_t{stages_[code >> kBits]} << kBits | within] = entry;
        ++code;
      }
    }
  }

  int32_t payload(Kind kind, const uint8_t*& p) {
    if (kind == Kind::Keep || kind == Kind::Punctuation || kind == Kind::Alone) {
      const uint32_t zigzag = leb128(p);
      return static_cast<int32_t>(zigzag >> 1) ^ -static_cast<int32_t>(zigzag & 1);
    }
    if (kind != Kind::Many) return 0;
    const int32_t start = static_cast<int32_t>(items_.size());
    const uint32_t count = leb128(p);
    items_.push_back({Kind::Keep, count});
    for (uint32_t i = 0; i < count; ++i) {
      const uint32_t item = leb128(p);
      items_.push_back({static_cast<Kind>(item & 7), item >> 3});
    }
    return start;
  }

  uint16_t constant_block(int32_t entry, std::vector<int32_t>& constants) {
    for (size_t i = 0; i < constants.size(); ++i)
      if (constants[i] == entry) return static_cast<uint16_t>(i);
    constants.push_back(entry);
    blocks_.resize(blocks_.size() + kMask + 1, entry);
    return static_cast<uint16_t>(constants.size() - 1);
  }

  std::vector<uint16_t> stages_;
  std::vector<int32_t> blocks_;  // delta to the target, or first of the items, times 8, plus kind
  std::vector<Item> items_;      // runs: how many follow, then these
};

// BertNormalizer and BertPreTokenizer: lower case without accents, or as it is.
inline const CodePoints& bert_code_points(bool cased) {
  static const uint8_t kUncased[] = {
#include "tables/uncased.inc"
  };
  static const uint8_t kCased[] = {
#include "tables/cased.inc"
  };
  if (cased) {
    static const CodePoints map(kCased, sizeof kCased);
    return map;
  }
  static const CodePoints map(kUncased, sizeof kUncased);
  return map;
}

// Decodes the code point at p and moves p on. The bytes are valid UTF-8.
NEST_INLINE uint32_t next_code_point(const uint8_t*& p) {
  const uint32_t first = *p++;
  if (first < 0x80) return first;
  if (first < 0xE0) return (first & 31) << 6 | (*p++ & 63u);
  if (first < 0xF0) {
    const uint32_t code = (first & 15) << 12 | (p[0] & 63u) << 6 | (p[1] & 63u);
    p += 2;
    return code;
  }
  const uint32_t code = (first & 7) << 18 | (p[0] & 63u) << 12 | (p[1] & 63u) << 6 | (p[2] & 63u);
  p += 3;
  return code;
}

// Writes a code point as UTF-8, at most 4 bytes, and returns where it ends.
NEST_INLINE uint8_t* put_code_point(uint8_t* out, uint32_t code) {
  if (code < 0x80) {
    *out++ = static_cast<uint8_t>(code);
  } else if (code < 0x800) {
    *out++ = static_cast<uint8_t>(0xC0 | code >> 6);
    *out++ = static_cast<uint8_t>(0x80 | (code & 63));
  } else if (code < 0x10000) {
    *out++ = static_cast<uint8_t>(0xE0 | code >> 12);
    *out++ = static_cast<uint8_t>(0x80 | (code >> 6 & 63));
    *out++ = static_cast<uint8_t>(0x80 | (code & 63));
  } else {
    *out++ = static_cast<uint8_t>(0xF0 | code >> 18);
    *out++ = static_cast<uint8_t>(0x80 | (code >> 12 & 63));
    *out++ = static_cast<uint8_t>(0x80 | (code >> 6 & 63));
    *out++ = static_cast<uint8_t>(0x80 | (code & 63));
  }
  return out;
}

}  // namespace nestling
