// Either tokenizer behind one face, and the pieces of a .nest file.
#pragma once

#include "wordpiece.hpp"
#ifndef NEST_WORDPIECE_ONLY
#include "unigram.hpp"
#else  // for a browser, which has to fetch the program: near half of it is Unigram's
namespace nestling {
struct UnigramScratch {};
struct Unigram {
  template <class Sink>
  void encode(Bytes, UnigramScratch&, Sink&) const {}
};
}  // namespace nestling
#endif

namespace nestling {

struct TokenizerScratch {
  std::unique_ptr<WordPieceScratch> wordpiece;
  std::unique_ptr<UnigramScratch> unigram;
};

class Tokenizer {
 public:
  WordPiece wordpiece;
  Unigram unigram;
  bool is_unigram = false;
  size_t size = 0;  // one more than the largest id

  TokenizerScratch scratch() const {
    TokenizerScratch scratch;
    if (is_unigram)
      scratch.unigram = std::make_unique<UnigramScratch>();
    else
      scratch.wordpiece = std::make_unique<WordPieceScratch>();
    return scratch;
  }

  template <class Sink>
  void encode(Bytes text, TokenizerScratch& scratch, Sink& sink) const {
    if (!is_unigram) return wordpiece.encode(text, *scratch.wordpiece, sink);
    Checked<Sink> checked{sink};
    unigram.encode(text, *scratch.unigram, checked);
  }

 private:
  // A word of Unigram has any number of pieces, so there must be room for each.
  template <class Sink>
  struct Checked {
    Sink& sink;
    NEST_INLINE void push(uint32_t id) {
      if (NEST_UNLIKELY(sink.full())) sink.drain();
      sink.push(id);
    }
  };
};

// The vocabulary of a .nest file (docs/format.md), unfolded: pieces by id, end to end.
struct Vocabulary {
  std::vector<uint8_t> blob;
  std::vector<uint32_t> offsets;  // n + 1
  bool repeats = false;           // whether a piece stands there twice, if they are sorted

  static constexpr size_t kNone = SIZE_MAX;

  size_t size() const { return offsets.size() - 1; }

  // The id of a piece, kNone if there is none. For a few questions: it looks at all pieces.
  size_t find(std::string_view piece) const {
    if (piece.empty()) return kNone;
    for (size_t id = 0; id < size(); ++id)
      if (offsets[id + 1] - offsets[id] == piece.size() && memcmp(&blob[offsets[id]], piece.data(), piece.size()) == 0)
        return id;
    return kNone;
  }

  // Whether added tokens have the ids that the reference gives them: those of pieces, and then what comes next. Makes
  // room for those that are no pieces.
  NEST_SMALL bool take(const std::vector<AddedToken>& added) {
    size_t next = size();
    for (const AddedToken& token : added) {
      const size_t id = find(token.content);
      if (token.id != (id == kNone ? next : id)) return false;
      next += id == kNone;
    }
    offsets.resize(next + 1, offsets.back());
    return true;
  }

  // raw: the front-coded pieces, sorted; order: the id of each, or null. Returns what is wrong, or null.
  NEST_SMALL static const char* read(Vocabulary& out, Bytes raw, const uint32_t* order, size_t ordered) {
    constexpr size_t kMost = 4000000, kMostBytes = 100000000;
    const uint8_t *p = raw.data, *end = p + raw.size;
    uint32_t n = 0;
    if (!leb128(p, end, n) || n > kMost) return "over 4,000,000 pieces";
    if (n > raw.size / 2) return "numbers that end early";
    if (order && ordered != n) return "not as many ids as pieces";
    std::vector<uint32_t> shared(n), rests(n);
    uint64_t total = 0, sum = 0;  // where size_t has 32 bits, counts could wrap around
    for (uint32_t& count : shared)
      if (!leb128(p, end, count)) return "numbers that end early";
    for (uint32_t& count : rests) {
      if (!leb128(p, end, count)) return "numbers that end early";
      sum += count;
    }
    if (sum != static_cast<uint64_t>(end - p)) return "pieces that do not end with the bytes";
    uint32_t ids = 0;
    std::vector<uint32_t> sizes, starts(n);
    std::vector<uint8_t> sorted;
    sorted.reserve(raw.size);  // so that there is an address even if all pieces are empty
    for (uint32_t i = 0; i < n; ++i) {
      const size_t before = i ? sorted.size() - starts[i - 1] : 0;
      if (shared[i] > before) return "a piece that shares more bytes than there are";
      out.repeats |= i > 0 && shared[i] == before && rests[i] == 0;
      total += shared[i] + rests[i];
      if (total > kMostBytes) return "pieces of over 100 MB";
      starts[i] = static_cast<uint32_t>(sorted.size());
      sorted.resize(sorted.size() + shared[i] + rests[i]);
      uint8_t* piece = sorted.data() + starts[i];
      if (i) memcpy(piece, sorted.data() + starts[i - 1], shared[i]);
      memcpy(piece + shared[i], p, rests[i]);
      p += rests[i];
      if (!valid_utf8({piece, shared[i] + rests[i]})) return "a piece that is not UTF-8";
      const uint32_t id = order ? order[i] : i;
      if (id >= kMost) return "an id of 4,000,000 or more";
      ids = std::max(ids, id + 1);
    }
    // By id: sizes first, then the bytes.
    out.offsets.assign(ids + 1, 0);
    const auto size_at = [&](uint32_t i) { return shared[i] + rests[i]; };
    for (uint32_t i = 0; i < n; ++i) {
      uint32_t& slot = out.offsets[(order ? order[i] : i) + 1];
      if (slot) return "two pieces with one id";
      slot = size_at(i);
    }
    for (size_t id = 0; id < ids; ++id) out.offsets[id + 1] += out.offsets[id];
    out.blob.reserve(raw.size);
    out.blob.resize(sorted.size());
    for (uint32_t i = 0; i < n; ++i)
      memcpy(out.blob.data() + out.offsets[order ? order[i] : i], sorted.data() + starts[i], size_at(i));
    return nullptr;
  }

  static bool valid_utf8(Bytes text) {
    for (size_t i = 0; i < text.size;) {
      const uint8_t first = text.data[i];
      const size_t size = first < 0x80   ? 1
                          : first < 0xC2 ? 0
                          : first < 0xE0 ? 2
                          : first < 0xF0 ? 3
                          : first < 0xF5 ? 4
                                         : 0;
      if (size == 0 || size > text.size - i) return false;
      for (size_t k = 1; k < size; ++k)
        if ((text.data[i + k] & 0xC0) != 0x80) return false;
      const uint8_t second = size > 1 ? text.data[i + 1] : 0;
      if ((first == 0xE0 && second < 0xA0) || (first == 0xED && second > 0x9F) || (first == 0xF0 && second < 0x90) ||
          (first == 0xF4 && second > 0x8F))
        return false;
      i += size;
    }
    return true;
  }

 private:
  static bool leb128(const uint8_t*& p, const uint8_t* end, uint32_t& number) {
    uint64_t value = 0;
    for (int shift = 0; shift <= 28; shift += 7) {
      if (p == end) return false;
      value |= uint64_t{*p & 127u} << shift;
      if (*p++ < 128) return number = static_cast<uint32_t>(value), value < 1ull << 32;
    }
    return false;
  }
};

}  // namespace nestling
