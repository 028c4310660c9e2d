// A vocabulary's pieces, found by their bytes.
//
// Almost every look-up is of a short word, and what it costs is cache lines. So a slot is 4 bytes, an id beside a part
// of the hash, and the bytes to compare lie by id, where those of frequent words, which have small ids, are close
// together.
#pragma once

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#include "bytes.hpp"
#include "simd.hpp"

namespace nestling {

// The first 16 bytes of a word, or all of a shorter one with zeros behind.
struct Key {
  uint64_t low = 0;
  uint64_t high = 0;
};

NEST_INLINE bool same(Key a, Key b) { return ((a.low ^ b.low) | (a.high ^ b.high)) == 0; }

inline Key key_of(const uint8_t* bytes, size_t size) {
  uint8_t padded[16] = {0};
  memcpy(padded, bytes, size < 16 ? size : 16);
  Key key;
  memcpy(&key.low, padded, 8);
  memcpy(&key.high, padded + 8, 8);
  return key;
}

// Of a key: the first `size` bytes, size <= 16.
NEST_INLINE Key first_bytes(Key key, size_t size) {
  const uint64_t low = size >= 8 ? ~0ull : ~0ull >> (64 - 8 * size) % 64 & (size ? ~0ull : 0);
  const uint64_t high = size >= 16 ? ~0ull : size > 8 ? ~0ull >> (128 - 8 * size) : 0;
  return {key.low & low, key.high & high};
}

NEST_INLINE uint64_t hash_of(Key key, uint64_t seed) {
  const uint64_t mixed = key.low ^ (key.high * 0x9E3779B97F4A7C15ull);
  return (mixed ^ mixed >> 32) * seed;
}

class Pieces {
 public:
  static constexpr uint32_t kNone = 0xFFFFFFFF, kMostIds = 1u << 20;

  // Piece i is blob[offsets[i]:offsets[i + 1]], n < kMostIds. Those that begin with `prefix` belong, without it; or, if
  // there is to be `none_with_prefix`, all others. Returns false if hashing cannot tell them apart fast.
  bool build(const uint8_t* blob, const uint32_t* offsets, size_t n, std::string_view prefix, bool none_with_prefix) {
    keys_.assign(n + 1, {});
    keys_[n] = {~0ull, ~0ull};  // no text has these bytes: what empty slots point to
    for (size_t id = 0; id < n; ++id) {
      std::string_view piece(reinterpret_cast<const char*>(blob) + offsets[id], offsets[id + 1] - offsets[id]);
      const bool has_prefix = piece.substr(0, prefix.size()) == prefix;
      if (has_prefix == none_with_prefix) continue;
      if (!none_with_prefix) piece.remove_prefix(prefix.size());
      // A piece with a zero byte would look like one without; no text has such bytes when it gets here.
      if (!piece.empty() && piece.find('\0') == piece.npos) take(piece, static_cast<uint32_t>(id));
    }
    std::make_heap(long_.begin(), long_.end());  // std::sort would be an eighth of the program that a browser fetches
    std::sort_heap(long_.begin(), long_.end());
    bits_ = 6;
    while ((size_t{kBucket} << bits_) < short_.size() * 2) ++bits_;
    for (int attempt = 0; attempt < 8; ++attempt, seed_ = seed_ * 0xD1342543DE82EF95ull | 1)
      if (fill(static_cast<uint32_t>(n))) return short_.clear(), short_.shrink_to_fit(), true;
    return false;
  }

  // The id of a word of at most 16 bytes, kNone if there is none.
  NEST_INLINE uint32_t find(Key key) const {
    const uint64_t hash = hash_of(key, seed_);
    const uint32_t part = static_cast<uint32_t>(hash) & ~(kMostIds - 1);
    for (size_t bucket = hash >> (64 - bits_);; bucket = (bucket + 1) & mask_) {
      const uint32_t* const entries = &slots_[bucket * kBucket];
      uint32_t found = matches(entries, part);
      for (; NEST_LIKELY(found != 0); found &= found - 1) {
        const uint32_t id = entries[__builtin_ctz(found)] & (kMostIds - 1);
        if (NEST_LIKELY(same(keys_[id], key))) return id;
      }
      if (NEST_LIKELY(entries[kBucket - 1] == empty_)) return kNone;  // buckets fill from the front
    }
  }

  // The id of a word of any size.
  uint32_t find(const uint8_t* bytes, size_t size) const {
    if (size <= 16) return find(key_of(bytes, size));
    const std::string_view word(reinterpret_cast<const char*>(bytes), size);
    const auto found = std::lower_bound(long_.begin(), long_.end(), word,
                                        [](const auto& entry, std::string_view other) { return entry.first < other; });
    return found != long_.end() && found->first == word ? found->second : kNone;
  }

  // The longest piece that the bytes begin with: its id, and its size in `found`; kNone if there is none. Sixteen bytes
  // can be read.
  uint32_t longest_prefix(const uint8_t* bytes, size_t size, size_t& found) const {
    const uint64_t sizes = sizes_[bytes[0]];
    for (found = size < longest_ ? size : longest_; found > 16; --found) {
      if (!(sizes >> (found < 63 ? found : 63) & 1)) continue;
      const uint32_t id = find(bytes, found);
      if (id != kNone) return id;
    }
    Key key;
    memcpy(&key, bytes, 16);
    for (uint64_t left = sizes & ((2ull << found) - 1); left; left &= ~(1ull << found)) {
      found = 63 - static_cast<size_t>(__builtin_clzll(left));
      const uint32_t id = find(first_bytes(key, found));
      if (id != kNone) return id;
    }
    return kNone;
  }

 private:
  static constexpr size_t kBucket = 4;      // slots that are looked at together
  static constexpr size_t kMostSteps = 16;  // buckets of a look-up, whatever the vocabulary

  // Which slots of a bucket have this part of a hash: a bit each.
  static NEST_INLINE uint32_t matches(const uint32_t* entries, uint32_t part) {
#if NEST_SSE2
    const __m128i four = _mm_loadu_si128(reinterpret_cast<const __m128i*>(entries));
    const __m128i parts = _mm_and_si128(four, _mm_set1_epi32(static_cast<int>(~(kMostIds - 1))));
    const __m128i equal = _mm_cmpeq_epi32(parts, _mm_set1_epi32(static_cast<int>(part)));
    return static_cast<uint32_t>(_mm_movemask_ps(_mm_castsi128_ps(equal)));
#else
    uint32_t bits = 0;
    for (size_t i = 0; i < kBucket; ++i) bits |= static_cast<uint32_t>((entries[i] & ~(kMostIds - 1)) == part) << i;
    return bits;
#endif
  }

  void take(std::string_view piece, uint32_t id) {
    const uint8_t* bytes = reinterpret_cast<const uint8_t*>(piece.data());
    sizes_[bytes[0]] |= 1ull << (piece.size() < 63 ? piece.size() : 63);
    longest_ = std::max(longest_, piece.size());
    if (piece.size() > 16) {
      long_.emplace_back(piece, id);
    } else {
      keys_[id] = key_of(bytes, piece.size());
      short_.push_back(id);
    }
  }

  bool fill(uint32_t n) {
    empty_ = n;
    mask_ = (size_t{1} << bits_) - 1;
    slots_.assign((mask_ + 1) * kBucket, empty_);
    for (const uint32_t id : short_) {
      const uint64_t hash = hash_of(keys_[id], seed_);
      size_t bucket = hash >> (64 - bits_), steps = 0, slot = 0;
      while (slots_[bucket * kBucket + slot] != empty_) {
        if (++slot < kBucket) continue;
        if (++steps == kMostSteps) return false;
        bucket = (bucket + 1) & mask_, slot = 0;
      }
      slots_[bucket * kBucket + slot] = id | (static_cast<uint32_t>(hash) & ~(kMostIds - 1));
    }
    // A word that is not there is looked for up to the end of a run of full buckets.
    for (size_t b = 0, run = 0; b < 2 * (mask_ + 1); ++b) {
      run = slots_[(b & mask_) * kBucket + kBucket - 1] == empty_ ? 0 : run + 1;
      if (run > kMostSteps) return false;
    }
    return true;
  }

  std::vector<uint32_t> slots_;                         // low 20 bits: id; high 12 bits: of the hash; empty_: none
  std::vector<Key> keys_;                               // by id
  std::vector<std::pair<std::string, uint32_t>> long_;  // pieces of more than 16 bytes, sorted
  std::vector<uint32_t> short_;                         // ids of the others, while building
  uint64_t sizes_[256] = {0};  // by first byte: bit k says that there are pieces of k bytes, bit 63 of 63 or more
  size_t longest_ = 0, mask_ = 0;
  uint64_t seed_ = 0xA0761D6478BD642Full;
  uint32_t empty_ = 0;
  int bits_ = 6;
};

}  // namespace nestling
