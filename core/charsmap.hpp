// The charsmap of a SentencePiece model: which character sequences are to be replaced, and by what.
//
// A little-endian uint32, the size of a trie in bytes; the trie, a Darts double array of uint32 over the keys' bytes;
// then the replacements, each ended by a NUL, at the places that the trie's leaves hold.
#pragma once

#include <vector>

#include "buffer.hpp"
#include "graphemes.hpp"

namespace nestling {

class Charsmap {
 public:
  // Takes a copy. Returns null, or what is wrong.
  static const char* build(Charsmap& out, Bytes raw) {
    if (raw.size < 4) return "charsmap: shorter than its own size field";
    const uint32_t trie = read(raw.data);
    if (trie / 4 > (raw.size - 4) / 4) return "charsmap: its trie is longer than itself";
    if (trie < 4) return "charsmap: its trie is empty";
    out.units_.resize(trie / 4);
    for (size_t i = 0; i < out.units_.size(); ++i) out.units_[i] = read(raw.data + 4 + 4 * i);
    out.blob_.assign(raw.data + 4 + out.units_.size() * 4, raw.data + raw.size);
    out.blob_.push_back(0);
    return out.check();
  }

  bool empty() const { return units_.empty(); }

  // Whether any key begins with this byte.
  bool has_key_from(uint8_t byte) const {
    const uint32_t unit = at(offset(at(0)) ^ byte);
    return byte != 0 && (unit & kLabel) == byte;
  }

  // The replacement of the shortest key that the bytes begin with, as spm_precompiled's `transform` finds it.
  bool find(const uint8_t* bytes, size_t size, Bytes& replacement) const {
    uint32_t place = offset(at(0));
    for (size_t i = 0; i < size && bytes[i] != 0; ++i) {
      place ^= bytes[i];
      const uint32_t unit = at(place);
      if ((unit & kLabel) != bytes[i]) return false;
      place ^= offset(unit);
      if (unit >> 8 & 1) return replacement_at(at(place) & 0x7FFFFFFF, replacement);
    }
    return false;
  }

  // Appends the text with clusters replaced, as tokenizers' Precompiled does: a cluster of less than 6 bytes as a whole
  // if it begins with a key, otherwise each character.
  void normalize(const uint8_t* p, const uint8_t* end, Buffer& out) const {
    const Joins& map = joins();
    while (p < end) {
      if (stands_alone(p, end)) {
        out.push(*p++);
        continue;
      }
      const uint8_t* next = cluster_end(map, p, end);
      Bytes replacement;
      if (next - p < 6 && find(p, static_cast<size_t>(next - p), replacement)) {
        out.append(replacement.data, replacement.size);
        p = next;
      }
      while (p < next) {
        const uint8_t* start = p;
        next_code_point(p);
        const bool found = find(start, static_cast<size_t>(p - start), replacement);
        out.append(found ? replacement.data : start, found ? replacement.size : static_cast<size_t>(p - start));
      }
    }
  }

 private:
  static constexpr uint32_t kLabel = 1u << 31 | 0xFF;
  static constexpr size_t kLongest = 1024;  // of a replacement, so that a text cannot grow without measure

  static uint32_t read(const uint8_t* p) {
    return uint32_t{p[0]} | uint32_t{p[1]} << 8 | uint32_t{p[2]} << 16 | uint32_t{p[3]} << 24;
  }
  static uint32_t offset(uint32_t unit) { return unit >> 10 << ((unit & 1u << 9) >> 6); }

  // A place outside holds a unit that no key's byte fits.
  uint32_t at(uint32_t place) const { return NEST_LIKELY(place < units_.size()) ? units_[place] : 1u << 31; }

  // An ASCII character that is not to be replaced, and is a cluster of its own.
  bool stands_alone(const uint8_t* p, const uint8_t* end) const { return kept_[*p] && (p + 1 == end || p[1] < 0x80); }

  const char* check() {
    size_t length = 0;
    for (const uint8_t byte : blob_)
      if ((length = byte ? length + 1 : 0) > kLongest) return "charsmap: a replacement of more than 1,024 bytes";
    if (!valid_utf8(blob_.data(), blob_.data() + blob_.size())) return "charsmap: replacements that are not UTF-8";
    for (uint32_t byte = 0; byte < 128; ++byte) {
      const uint8_t alone = static_cast<uint8_t>(byte);
      Bytes replacement;
      kept_[byte] = alone != '\r' && !find(&alone, 1, replacement);
    }
    return nullptr;
  }

  // A replacement begins where a character does: the reference panics on others.
  bool replacement_at(size_t place, Bytes& replacement) const {
    if (place >= blob_.size() || (blob_[place] & 0xC0) == 0x80) return false;
    const uint8_t* start = blob_.data() + place;
    replacement = {start, strlen(reinterpret_cast<const char*>(start))};
    return true;
  }

  static bool valid_utf8(const uint8_t* p, const uint8_t* end) {
    while (p < end) {
      const uint8_t first = *p;
      const int size = first < 0x80 ? 1 : first < 0xC2 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : first < 0xF5 ? 4 : 0;
      if (size == 0 || end - p < size) return false;
      for (int i = 1; i < size; ++i)
        if ((p[i] & 0xC0) != 0x80) return false;
      const uint32_t code = next_code_point(p);
      if (size == 3 && (code < 0x800 || (code >= 0xD800 && code < 0xE000))) return false;
      if (size == 4 && (code < 0x10000 || code > 0x10FFFF)) return false;
    }
    return true;
  }

  std::vector<uint32_t> units_;
  std::vector<uint8_t> blob_;  // replacements, each ended by a NUL, the last one always
  bool kept_[256] = {false};   // by byte: an ASCII character that is not to be replaced
};

}  // namespace nestling
