// Text -> ids as BERT does it: BertNormalizer, BertPreTokenizer and WordPiece in one pass over UTF-8 bytes.
//
// A word of up to 15 ASCII letters and digits is one load, one hash, one look-up. What else there is goes one code
// point at a time through the tables of codepoints.hpp. Words that are no piece are cut into pieces once and
// remembered.
#pragma once

#include <memory>

#include "codepoints.hpp"
#include "scan.hpp"

namespace nestling {

struct WordPieceOptions {
  uint32_t unknown = 0;
  uint32_t most_chars = 100;  // of a word that is cut into pieces; a longer one is unknown
  bool cased = false;
  std::vector<AddedToken> added;
};

// What a thread needs while it tokenizes; of one WordPiece only. Its memory is fixed.
class WordPieceScratch {
 public:
  static constexpr size_t kMostChars = 1000;  // of a word, at most 4 bytes each
  static constexpr size_t kCached = 2048, kCachedIds = 11;

  struct Cached {  // of words of at most 16 bytes
    Key key;
    uint32_t count = 0;  // 0: nothing here
    uint32_t ids[kCachedIds];
  };

  Cached& cached(Key key) { return cache_[hash_of(key, 0x9E3779B97F4A7C15ull) >> 53]; }

  uint8_t word[kMostChars * 4 + 32];
  uint32_t ids[kMostChars];

 private:
  std::vector<Cached> cache_ = std::vector<Cached>(kCached);
};

class WordPiece {
 public:
  using Scratch = WordPieceScratch;

  // Piece i is blob[offsets[i]:offsets[i + 1]], empty where there is no such id. Returns what is wrong, or null.
  NEST_SMALL static const char* build(WordPiece& out, const uint8_t* blob, const uint32_t* offsets, size_t n,
                           const WordPieceOptions& options) {
    if (n == 0 || n + 1 >= Pieces::kMostIds) return "a vocabulary that is empty or has over a million pieces";
    if (options.unknown >= n) return "an unknown token that is not in the vocabulary";
    if (options.most_chars < kReach || options.most_chars > Scratch::kMostChars)
      return "a longest word of under 16 or over 1,000 characters";
    out.options_ = options;
    out.points_ = &bert_code_points(options.cased);
    if (!out.words_.build(blob, offsets, n, "##", true) || !out.rest_.build(blob, offsets, n, "##", false))
      return "pieces that hashing cannot tell apart";
    if (!options.cased && order_matters(blob, offsets[n])) return "pieces with marks that canonical order may move";
    return out.plan_ascii();
  }

  // Tokens of a text in valid UTF-8, special ones only where they are spelled out. sink: push(id) takes a token; full()
  // asks, between words, whether there is no room for the ids of one more word; drain() makes room.
  template <class Sink>
  void encode(Bytes text, Scratch& scratch, Sink& sink) const {
    const uint8_t* p = text.data;
    const uint8_t* end = p + text.size;
    const uint8_t* stop = text.size > kReach ? end - kReach : p;  // up to here, kReach + 1 bytes can be read
    uint8_t tail[2 * kReach + 8];
    for (bool last = false;; last = true) {
      while (p < stop) p = step(p, end, scratch, sink);
      if (last || p >= end) return;
      const size_t left = static_cast<size_t>(end - p);  // at most kReach: copied, with spaces behind
      memset(tail, ' ', sizeof tail);
      memcpy(tail, p, left);
      p = tail;
      stop = end = tail + left;
    }
  }

 private:
  static constexpr size_t kReach = 16;
  // What follows a word, or stands where one might begin.
  enum Class : uint8_t { kWord, kTaken, kAdded, kSlow };

  template <class Sink>
  NEST_INLINE const uint8_t* step(const uint8_t* p, const uint8_t* end, Scratch& scratch, Sink& sink) const {
    if (NEST_UNLIKELY(sink.full())) sink.drain();
    Key key;
    const size_t size = scan_word(p, fold_, key);
    if (NEST_UNLIKELY(size == 16)) return slow(p, end, scratch, sink);
    const uint8_t next = p[size];
    if (NEST_UNLIKELY(classes_[next] == kSlow)) return slow(p, end, scratch, sink);
    if (NEST_LIKELY(size > 0)) {
      const uint32_t id = words_.find(key);
      if (NEST_LIKELY(id != Pieces::kNone))
        sink.push(id);
      else
        cut_short(key, size, scratch, sink);
    } else if (NEST_UNLIKELY(classes_[next] == kAdded)) {
      return added(p, end, sink);
    }
    // A space or a mark after the word is taken along, and a space after that: no branch to mispredict.
    sink.push_if(ascii_ids_[next], is_mark_[next]);
    p += size + takes_[next];
    return p + (*p == ' ');
  }

  // A word of ASCII letters and digits that is no piece as a whole.
  template <class Sink>
  NEST_NOINLINE void cut_short(Key key, size_t size, Scratch& scratch, Sink& sink) const {
    memcpy(scratch.word, &key, 16);
    finish(key, size, size, scratch, sink);
  }

  // The pieces of a word that is no piece as a whole: scratch.word holds its bytes, with zeros behind.
  template <class Sink>
  void finish(Key key, size_t size, size_t chars, Scratch& scratch, Sink& sink) const {
    if (chars > options_.most_chars) return sink.push(options_.unknown);
    if (size > 16) {
      const size_t count = cut(scratch.word, size, scratch.ids);
      for (size_t i = 0; i < count; ++i) sink.push(scratch.ids[i]);
      return;
    }
    Scratch::Cached& cached = scratch.cached(key);
    if (cached.count == 0 || !same(cached.key, key)) {
      const size_t count = cut(scratch.word, size, scratch.ids);
      if (count > Scratch::kCachedIds) {
        for (size_t i = 0; i < count; ++i) sink.push(scratch.ids[i]);
        return;
      }
      cached.key = key;
      cached.count = static_cast<uint32_t>(count);
      memcpy(cached.ids, scratch.ids, count * sizeof *cached.ids);
    }
    for (uint32_t i = 0; i < cached.count; ++i) sink.push(cached.ids[i]);
  }

  // Longest match first; what cannot be matched to its end is one unknown token.
  size_t cut(const uint8_t* word, size_t size, uint32_t* ids) const {
    size_t count = 0, found = 0;
    for (size_t start = 0; start < size; start += found) {
      const uint32_t id = (start ? rest_ : words_).longest_prefix(word + start, size - start, found);
      if (id == Pieces::kNone) return ids[0] = options_.unknown, 1;
      ids[count++] = id;
    }
    return count;
  }

  // One word, code point by code point, and what ends it if that is not ASCII.
  template <class Sink>
  NEST_NOINLINE const uint8_t* slow(const uint8_t* p, const uint8_t* end, Scratch& scratch, Sink& sink) const {
    uint8_t* const word = scratch.word;
    uint8_t* out = word;
    size_t chars = 0;
    Item items[CodePoints::kMost];
    const auto keep = [&](uint32_t code) {
      if (chars < options_.most_chars) out = put_code_point(out, code);
      ++chars;
    };
    while (p < end) {
      if (*p < 0x80) {
        const uint8_t c = *p;
        if (ascii_[c] == Kind::Keep) {
          keep(c | (fold_ & (static_cast<uint8_t>((c | 0x20) - 'a') < 26 ? 0x20 : 0)));
        } else if (ascii_[c] != Kind::Drop) {
          break;
        }
        ++p;
        continue;
      }
      const uint32_t code = next_code_point(p);
      const Item item = (*points_)[code];
      if (NEST_LIKELY(item.kind == Kind::Keep)) {
        keep(item.code);
        continue;
      }
      if (item.kind == Kind::Drop) continue;
      const size_t count = item.kind < Kind::Many ? (items[0] = item, 1) : points_->expand(code, item.kind, items);
      bool ended = false;
      for (size_t i = 0; i < count; ++i) {
        if (items[i].kind == Kind::Keep) {
          keep(items[i].code);
          continue;
        }
        flush(out, chars, scratch, sink);
        ended = true;
        if (items[i].kind != Kind::Space) {
          keep(items[i].code);
          flush(out, chars, scratch, sink);
        }
      }
      if (ended && chars == 0) return p;
    }
    flush(out, chars, scratch, sink);
    return p;
  }

  // The word in scratch.word, from its start to `out`, is over: its tokens, and a new one begins.
  template <class Sink>
  void flush(uint8_t*& out, size_t& chars, Scratch& scratch, Sink& sink) const {
    const size_t size = static_cast<size_t>(out - scratch.word), count = chars;
    out = scratch.word;
    chars = 0;
    if (count == 0) return;
    if (NEST_UNLIKELY(sink.full())) sink.drain();
    memset(scratch.word + size, 0, 16);
    const Key key = key_of(scratch.word, size);
    const uint32_t id = count > options_.most_chars ? Pieces::kNone
                        : size > 16                 ? words_.find(scratch.word, size)
                                                    : words_.find(key);
    if (id != Pieces::kNone) return sink.push(id);
    finish(key, size, count, scratch, sink);
  }

  // At the first byte of added tokens: the longest that is spelled out here, or a mark like others.
  template <class Sink>
  NEST_NOINLINE const uint8_t* added(const uint8_t* p, const uint8_t* end, Sink& sink) const {
    const AddedToken* best = nullptr;
    for (const AddedToken& token : options_.added) {
      const size_t size = token.content.size();
      if (size <= static_cast<size_t>(end - p) && (!best || size > best->content.size()) &&
          memcmp(p, token.content.data(), size) == 0)
        best = &token;
    }
    sink.push(best ? best->id : ascii_ids_[*p]);
    return p + (best ? best->content.size() : 1);
  }

  const char* plan_ascii() {
    fold_ = options_.cased ? 0 : 0x20;
    for (uint32_t c = 0; c < 256; ++c) {
      classes_[c] = kSlow;
      if (c >= 128) continue;
      ascii_[c] = (*points_)[c].kind;
      const bool letter = (c | 0x20) >= 'a' && (c | 0x20) <= 'z', digit = c >= '0' && c <= '9';
      if (ascii_[c] == Kind::Keep && !letter && !digit)
        return "a normalizer that takes other ASCII characters than letters and digits";
      if (letter || digit) classes_[c] = kWord;
      if (ascii_[c] == Kind::Space) classes_[c] = kTaken, takes_[c] = 1;
      if (ascii_[c] == Kind::Punctuation) {
        const uint8_t byte = static_cast<uint8_t>(c);
        const uint32_t id = words_.find(&byte, 1);
        ascii_ids_[c] = id == Pieces::kNone ? options_.unknown : id;
        classes_[c] = kTaken, takes_[c] = 1, is_mark_[c] = 1;
      }
    }
    for (const AddedToken& token : options_.added) {
      const uint8_t first = token.content.empty() ? 0 : static_cast<uint8_t>(token.content[0]);
      if (first >= 128 || ascii_[first] != Kind::Punctuation) return "an added token that does not begin with a mark";
      classes_[first] = kAdded, takes_[first] = 0, is_mark_[first] = 0;
    }
    return nullptr;
  }

  // Canonical order can move these marks past one another; which words that concerns, only `tokenizers` knows. Words
  // with marks that no piece has are unknown in any order.
  static bool order_matters(const uint8_t* blob, size_t size) {
    static const uint32_t kReordered[] = {
#include "tables/reordered.inc"
    };
    uint32_t met = 0;
    for (const uint8_t *p = blob, *end = blob + size; p < end;) {
      if (*p < 0x80) {
        ++p;
        continue;
      }
      const uint32_t code = next_code_point(p);
      if (code < 0x1B44 || code == met) continue;
      for (const uint32_t mark : kReordered) {
        if (code != mark) continue;
        if (met && met != mark) return true;
        met = mark;
      }
    }
    return false;
  }

  WordPieceOptions options_;
  const CodePoints* points_ = nullptr;
  Pieces words_, rest_;  // pieces that begin a word; those that go on, without their ##
  Kind ascii_[128] = {};
  uint32_t ascii_ids_[256] = {0};  // of marks
  uint8_t classes_[256] = {0}, takes_[256] = {0}, is_mark_[256] = {0};
  uint8_t fold_ = 0x20;
};

}  // namespace nestling
