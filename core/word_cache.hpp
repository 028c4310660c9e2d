// The ids of words that were met before, in fixed memory.
#pragma once

#include <vector>

#include "bytes.hpp"

namespace nestling {

// The ids of raw words, kept by their bytes. A line of the processor's cache has two words; one that comes often stays.
class WordCache {
 public:
  static constexpr size_t kMostBytes = 19, kMostIds = 3;

  struct Key {
    uint64_t low, middle;
    uint32_t high;  // its top byte is the word's size
  };
  struct Word {
    uint64_t low, middle;
    uint32_t high;
    uint32_t first : 28, count : 2, uses : 2;
    uint32_t others[kMostIds - 1];
  };
  struct alignas(64) Pair {
    Word words[2];
  };
  static_assert(sizeof(Pair) == 64, "a line");

  // Of a word of 1 to kMostBytes bytes; where their number is no power of two, some are in it twice.
  static NEST_INLINE Key key_of(const uint8_t* p, size_t size) {
    const uint32_t top = static_cast<uint32_t>(size) << 24;
    if (size > 16) return {load<uint64_t>(p), load<uint64_t>(p + 8), load<uint32_t>(p + size - 4) >> 8 | top};
    if (size >= 8) return {load<uint64_t>(p), load<uint64_t>(p + size - 8), top};
    if (size >= 4) return {load<uint32_t>(p), load<uint32_t>(p + size - 4), top};
    return {p[0] | uint64_t{p[size / 2]} << 8 | uint64_t{p[size - 1]} << 16, 0, top};
  }

  NEST_INLINE Pair& pair(const Key& key) {
    const uint64_t mixed = key.low ^ key.middle * 0x9E3779B97F4A7C15ull ^ key.high * 0xD1342543DE82EF95ull;
    return pairs_[(mixed ^ mixed >> 32) * 0xA0761D6478BD642Full >> (64 - kBits)];
  }

  // The word with this key, null if there is none.
  static NEST_INLINE Word* find(Pair& pair, const Key& key) {
    for (Word& word : pair.words)
      if (((word.low ^ key.low) | (word.middle ^ key.middle) | (word.high ^ key.high)) == 0) return &word;
    return nullptr;
  }

  static NEST_INLINE void use(Word& word) { word.uses = (word.uses + (word.uses < 3)) & 3; }

  // Takes the place of a word that was not used of late; if both were, they grow older.
  static void keep(Pair& pair, const Key& key, const std::vector<uint32_t>& ids) {
    Word& word = pair.words[pair.words[1].uses < pair.words[0].uses];
    if (word.uses > 0) {
      for (Word& older : pair.words) older.uses = (older.uses - 1) & 3;
      return;
    }
    word = {key.low, key.middle, key.high, ids[0] & ((1u << 28) - 1), static_cast<uint32_t>(ids.size()) & 3, 0, {}};
    std::copy(ids.begin() + 1, ids.end(), word.others);
  }

  void clear() { pairs_.assign(size_t{1} << kBits, Pair{}); }

 private:
  static constexpr int kBits = 14;  // 1 MiB

  template <class T>
  static NEST_INLINE T load(const uint8_t* p) {
    T value;
    memcpy(&value, p, sizeof value);
    return value;
  }

  std::vector<Pair> pairs_;
};

}  // namespace nestling
