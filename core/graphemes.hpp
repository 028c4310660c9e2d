// Extended grapheme clusters, as the reference splits text into them.
//
// The classes are those of UAX #29 for the Unicode version of the reference; derive/graphemes.py asks it for them, and
// says how the bytes are to be read.
#pragma once

#include <vector>

#include "codepoints.hpp"

namespace nestling {

// Extend is with Indic_Conjunct_Break=Extend, ExtendAlone without, Linker with Linker. Regional indicators are Any:
// their pairs are too long to matter to a charsmap.
enum class Join : uint8_t {
  Any,
  CR,
  LF,
  Control,
  Extend,
  ExtendAlone,
  Linker,
  ZWJ,
  SpacingMark,
  Prepend,
  L,
  V,
  T,
  LV,
  LVT,
  Pictographic,
  Consonant
};

// Code points by class, in two stages.
class Joins {
 public:
  Joins(const uint8_t* raw, size_t size) {
    uint8_t block[kBlock];
    uint32_t code = 0;
    for (const uint8_t* end = raw + size; raw < end;) {
      const uint32_t range = leb128(raw);
      for (uint32_t left = range >> 5; left > 0; --left) {
        block[code++ % kBlock] = range & 31;
        if (code % kBlock == 0) add(block);
      }
    }
  }

  Join operator[](uint32_t code) const {
    return static_cast<Join>(blocks_[size_t{stages_[code / kBlock]} * kBlock + code % kBlock]);
  }

 private:
  static constexpr uint32_t kBlock = 128;

  static uint32_t leb128(const uint8_t*& p) {
    uint32_t number = 0;
    for (int shift = 0;; shift += 7) {
      number |= uint32_t{*p & 127u} << shift;
      if (*p++ < 128) return number;
    }
  }

  // Most blocks are the same as one of the first few, or as the one before.
  void add(const uint8_t* block) {
    const size_t n = blocks_.size() / kBlock;
    for (size_t i = 0; i < n; ++i) {
      if (i == 64 && n > 64) i = n - 1;
      if (memcmp(&blocks_[i * kBlock], block, kBlock) == 0) return stages_.push_back(static_cast<uint16_t>(i));
    }
    stages_.push_back(static_cast<uint16_t>(n));
    blocks_.insert(blocks_.end(), block, block + kBlock);
  }

  std::vector<uint16_t> stages_;
  std::vector<uint8_t> blocks_;
};

inline const Joins& joins() {
  static const uint8_t kRaw[] = {
#include "tables/graphemes.inc"
  };
  static const Joins map(kRaw, sizeof kRaw);
  return map;
}

// Whether a character of this class goes on with a cluster, whatever that ends with, unless it is a control.
NEST_INLINE bool extends(Join join) { return join >= Join::Extend && join <= Join::SpacingMark; }

// What must be known of a cluster to say whether the next character goes on with it.
class Cluster {
 public:
  explicit Cluster(Join first) : last_(first) { enter(first); }

  // Takes the next character if it goes on with the cluster (rules GB3 to GB11 of UAX #29).
  bool take(Join next) {
    if (!goes_on(next)) return false;
    enter(next);
    return true;
  }

 private:
  enum Seen : uint8_t { Nothing, Picture, PictureZwj, Letter, LetterLinker };

  bool goes_on(Join next) const {
    if (last_ == Join::CR && next == Join::LF) return true;
    if (control(last_) || control(next)) return false;
    if (extends(next) || last_ == Join::Prepend) return true;
    if (next == Join::Pictographic) return seen_ == PictureZwj;
    if (next == Join::Consonant) return letter_ == LetterLinker;
    return hangul(last_, next);
  }

  static bool control(Join join) { return join >= Join::CR && join <= Join::Control; }

  static bool hangul(Join before, Join after) {
    switch (before) {
      case Join::L:
        return after == Join::L || after == Join::V || after == Join::LV || after == Join::LVT;
      case Join::V:
      case Join::LV:
        return after == Join::V || after == Join::T;
      case Join::T:
      case Join::LVT:
        return after == Join::T;
      default:
        return false;
    }
  }

  void enter(Join join) {
    const bool mark = join == Join::Extend || join == Join::ExtendAlone || join == Join::Linker;
    if (join == Join::Pictographic)
      seen_ = Picture;
    else if (join == Join::ZWJ && seen_ == Picture)
      seen_ = PictureZwj;
    else if (!(mark && seen_ == Picture))
      seen_ = Nothing;

    if (join == Join::Consonant)
      letter_ = Letter;
    else if (join == Join::Linker && letter_ != Nothing)
      letter_ = LetterLinker;
    else if (join != Join::Extend && join != Join::ZWJ && join != Join::Linker)
      letter_ = Nothing;
    last_ = join;
  }

  Join last_;
  Seen seen_ = Nothing;    // for GB11: a pictograph, then only marks, then a joiner
  Seen letter_ = Nothing;  // for GB9c: a consonant, then only marks, one of them a linker
};

// The end of the cluster that begins at p < end. The bytes are valid UTF-8.
inline const uint8_t* cluster_end(const Joins& map, const uint8_t* p, const uint8_t* end) {
  Cluster cluster(map[next_code_point(p)]);
  while (p < end) {
    const uint8_t* next = p;
    if (!cluster.take(map[next_code_point(next)])) break;
    p = next;
  }
  return p;
}

}  // namespace nestling
