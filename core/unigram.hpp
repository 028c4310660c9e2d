// Text -> ids by a Unigram (SentencePiece) model, as `tokenizers` does it.
//
// A text is cut at the added tokens; what is between them is normalized, and split into words that begin with U+2581,
// the mark that stands for a space; of all ways to cut a word into pieces, the one with the highest sum of scores wins.
//
// What makes it fast: a raw word between two spaces gives the same ids wherever it stands, so most words are looked up
// in a cache by their raw bytes, before anything is normalized. This holds because no key of a real charsmap begins
// with a space (if one does, texts are treated as a whole), and because a space is in a cluster with its neighbours
// only where the word behind it begins with a combining character, or the word before it ends with a Prepend character:
// such words are never cached.
#pragma once

#include <algorithm>
#include <atomic>
#include <vector>

#include "buffer.hpp"
#include "charsmap.hpp"
#include "trie.hpp"
#include "white_space.hpp"
#include "word_cache.hpp"

namespace nestling {

struct UnigramOptions {
  enum Prepend { Always, First, Never };

  int64_t unknown = -1;  // id of the piece for what is in no piece; there must be one
  bool byte_fallback = false;
  // The normalizer, in this order.
  bool trim_left = false, trim_right = false;    // Strip of the raw text
  bool replace_quotes = false;                   // `` and '' by "
  bool fold = false;                             // NFKD, StripAccents, Lowercase
  Bytes charsmap = {};                           // Precompiled; empty: none
  bool strip_left = false, strip_right = false;  // Strip behind the charsmap
  bool collapse_spaces = false;                  // Replace(Regex(" {2,}"), " "), or by U+2581, which is the same here
  // The splitter: Metaspace with replacement U+2581 and split=true, alone or behind a WhitespaceSplit.
  bool split_whitespace = false;
  Prepend prepend = Always;
  std::vector<AddedToken> added = {};
};

// NFKD, StripAccents and Lowercase, which leave no marks whose order could depend on each other.
inline const CodePoints& albert_code_points() {
  static const uint8_t kRaw[] = {
#include "tables/albert.inc"
  };
  static const CodePoints map(kRaw, sizeof kRaw);
  return map;
}

inline constexpr uint8_t kMark[3] = {0xE2, 0x96, 0x81};  // U+2581
static_assert(sizeof kMark <= Buffer::kFront, "a mark is written before a text's first byte");

NEST_INLINE bool at_mark(const uint8_t* p, const uint8_t* end) {
  return *p == kMark[0] && end - p >= 3 && p[1] == kMark[1] && p[2] == kMark[2];
}

// What a thread needs to tokenize one text after the other. It may serve several models, but forgets its words between.
struct UnigramScratch {
  struct Step {
    double score;    // of the best way to here
    uint32_t start;  // of its last piece
    uint32_t id;     // of its last piece
  };

  Buffer folded, normal;
  std::vector<Step> steps;
  std::vector<uint32_t> ends, ids;
  WordCache words;
  uint64_t model = 0;

  void serve(uint64_t other) {
    if (model == other) return;
    words.clear();
    model = other;
  }

  // A text that was very long does not hold memory for ever.
  void release() {
    constexpr size_t kKept = 1 << 20;
    folded.release_if_over(kKept);
    normal.release_if_over(kKept);
    if (steps.size() * sizeof(Step) > kKept) steps = std::vector<Step>();
    if (ends.capacity() * sizeof(uint32_t) > kKept) ends = std::vector<uint32_t>();
    if (ids.capacity() * sizeof(uint32_t) > kKept) ids = std::vector<uint32_t>();
  }
};

class Unigram {
 public:
  // Piece i is blob[offsets[i]:offsets[i + 1]], with scores[i]. Returns null, or what is wrong or not supported.
  static const char* build(Unigram& out, const uint8_t* blob, const uint32_t* offsets, const double* scores, size_t n,
                           const UnigramOptions& options) {
    out = Unigram();
    if (options.added.size() >= Trie::kNone) return "too many added tokens";
    if (n == 0 || n >= Trie::kNone) return "a Unigram vocabulary of no pieces, or too many";
    if (options.unknown < 0 || static_cast<uint64_t>(options.unknown) >= n)
      return "a Unigram vocabulary without an unknown piece is not supported";
    const bool moved =
        options.split_whitespace || options.replace_quotes || options.fold || options.trim_left || options.strip_left;
    if (options.prepend == UnigramOptions::First && moved)
      return "a Metaspace that marks the first word only, where a text's begin may be cut off, is not supported";
    double least = scores[0];
    for (size_t i = 0; i < n; ++i) {
      if (offsets[i] > offsets[i + 1]) return "pieces that overlap";
      if (!(scores[i] > -1e300 && scores[i] < 1e300)) return "a score that is no finite number";
      least = std::min(least, scores[i]);
    }
    if (options.charsmap.size > 0)
      if (const char* error = Charsmap::build(out.charsmap_, options.charsmap)) return error;
    out.options_ = options;
    out.options_.charsmap = {};
    out.unknown_ = static_cast<uint32_t>(options.unknown);
    out.unknown_score_ = least - 10.0;
    out.scores_.assign(scores, scores + n);
    out.pieces_.build(blob, offsets, n);
    out.byte_fallback_ = options.byte_fallback;
    for (int byte = 0; byte < 256; ++byte) out.bytes_[byte] = out.byte_piece(static_cast<uint8_t>(byte));
    out.add_tokens(options.added);
    out.learn_bytes();
    static std::atomic<uint64_t> models{0};
    out.stamp_ = ++models;
    return nullptr;
  }

  // The ids of a text, without those that a post-processor adds. The text is valid UTF-8; sink.push(id) takes them.
  template <class Sink>
  void encode(Bytes text, UnigramScratch& scratch, Sink& sink) const {
    scratch.serve(stamp_);
    Run<Sink> run{*this, scratch, sink};
    const uint8_t* const begin = text.data;
    const uint8_t* const end = begin + text.size;
    const uint8_t* from = begin;  // what is before is done
    const uint8_t* start = begin;
    const uint8_t* stop = begin;
    const uint8_t* white = begin;  // the end of the white space that was looked at last
    while (const AddedToken* token = next_added(stop, end, start, stop)) {
      if (token->rstrip && stop >= white) white = skip_white_space(stop, end);
      if (token->lstrip) start = start > from ? drop_white_space(from, start) : from;
      if (from < start) run.segment(from, start, from == begin);
      from = token->rstrip ? white : stop;
      if (start < from) sink.push(token->id);  // not if the one before took all of it as white space
    }
    if (from < end) run.segment(from, end, from == begin);
    scratch.release();
  }

 private:
  template <class Sink>
  struct Run;

  static constexpr uint32_t kUnreached = 0xFFFFFFFF;

  uint32_t byte_piece(uint8_t byte) const {
    const char* digits = "0123456789ABCDEF";
    const char name[] = {'<', '0', 'x', digits[byte >> 4], digits[byte & 15], '>'};
    const uint8_t* p = reinterpret_cast<const uint8_t*>(name);
    return pieces_.find(p, p + sizeof name);
  }

  void add_tokens(const std::vector<AddedToken>& added) {
    std::string blob;
    std::vector<uint32_t> offsets = {0};
    for (const AddedToken& token : added) {
      blob += token.content;
      offsets.push_back(static_cast<uint32_t>(blob.size()));
      if (!token.content.empty()) begins_added_[static_cast<uint8_t>(token.content[0])] = true;
    }
    added_.build(reinterpret_cast<const uint8_t*>(blob.data()), offsets.data(), added.size());
    only_first_ = -1;
    int firsts = 0;
    for (int byte = 0; byte < 256; ++byte)
      if (begins_added_[byte]) only_first_ = byte, ++firsts;
    if (firsts != 1) only_first_ = -1;
    has_added_ = firsts > 0;
  }

  // The leftmost, then longest added token in the text from p on.
  const AddedToken* next_added(const uint8_t* p, const uint8_t* end, const uint8_t*& start,
                               const uint8_t*& stop) const {
    if (!has_added_) return nullptr;
    for (; p < end; ++p) {
      if (only_first_ >= 0) {
        p = static_cast<const uint8_t*>(memchr(p, only_first_, static_cast<size_t>(end - p)));
        if (!p) return nullptr;
      } else if (!begins_added_[*p]) {
        continue;
      }
      uint32_t found = Trie::kNone, node = 0;
      for (const uint8_t* q = p; q < end && (node = added_.child(node, *q)) != 0; ++q)
        if (added_.key(node) != Trie::kNone) found = added_.key(node), stop = q + 1;
      if (found == Trie::kNone) continue;
      start = p;
      return &options_.added[found];
    }
    return nullptr;
  }

  // What the normalizer does to single ASCII bytes, and whether words can be treated one by one.
  void learn_bytes() {
    by_words_ = charsmap_.empty() || !charsmap_.has_key_from(' ');
    UnigramScratch scratch;
    for (uint8_t byte = 0; byte < 128; ++byte) {
      space_[byte] = becomes_space(&byte, 1, scratch) && byte <= ' ';
      const bool one = scratch.normal.end() - scratch.normal.begin() == 1;
      const uint8_t normal = one ? *scratch.normal.begin() : 0;
      plain_[byte] = byte > ' ' && normal > ' ' && normal < 0x7F ? normal : 0;
    }
    const uint8_t line[] = {'\r', '\n'};  // one cluster
    if (!space_[line[0]] || !becomes_space(line, 2, scratch)) space_[line[0]] = space_[line[1]] = false;
    best(kMark, sizeof kMark, scratch);
    mark_ids_ = scratch.ids;
  }

  // Whether a raw text becomes one space, or what the splitter takes for one.
  bool becomes_space(const uint8_t* raw, size_t size, UnigramScratch& scratch) const {
    normalize(raw, raw + size, scratch);
    const uint8_t* const begin = scratch.normal.begin();
    const uint8_t* const end = scratch.normal.end();
    if (options_.split_whitespace) return begin < end && skip_white_space(begin, end) == end;
    return end - begin == 1 && *begin == ' ';
  }

  // Folds and maps a text into scratch.normal.
  void normalize(const uint8_t* p, const uint8_t* end, UnigramScratch& scratch) const {
    if (options_.fold || options_.replace_quotes) fold(p, end, scratch.folded);
    map(p, end, scratch);
  }

  // Maps into scratch.normal what was folded, or the raw text if nothing is.
  void map(const uint8_t* p, const uint8_t* end, UnigramScratch& scratch) const {
    if (options_.fold || options_.replace_quotes) p = scratch.folded.begin(), end = scratch.folded.end();
    scratch.normal.clear();
    if (charsmap_.empty())
      scratch.normal.append(p, static_cast<size_t>(end - p));
    else
      charsmap_.normalize(p, end, scratch.normal);
  }

  void fold(const uint8_t* p, const uint8_t* end, Buffer& out) const {
    const CodePoints& codes = albert_code_points();
    out.clear();
    while (p < end) {
      if (options_.replace_quotes && pair_of_quotes(p, end)) {
        out.push('"');
        p += 2;
      } else if (!options_.fold) {
        out.push(*p++);
      } else if (*p < 0x80) {
        out.push(*p >= 'A' && *p <= 'Z' ? *p | 0x20 : *p);
        ++p;
      } else {
        fold_code_point(codes, next_code_point(p), out);
      }
    }
  }

  static bool pair_of_quotes(const uint8_t* p, const uint8_t* end) {
    return (*p == '`' || *p == '\'') && end - p >= 2 && p[1] == *p;
  }

  static void fold_code_point(const CodePoints& codes, uint32_t code, Buffer& out) {
    const Item item = codes[code];
    uint8_t* p = out.room(4 * CodePoints::kMost);
    if (item.kind == Kind::Many || item.kind == Kind::Hangul) {
      Item items[CodePoints::kMost];
      const size_t n = codes.expand(code, item.kind, items);
      for (size_t i = 0; i < n; ++i) p = put_code_point(p, items[i].code);
    } else if (item.kind != Kind::Drop) {
      p = put_code_point(p, item.code);
    }
    out.take(p);
  }

  // The ids of the best way to cut a word, into scratch.ids: of two with the same score the one found first, where
  // pieces are tried by their start, then by their size, as Unigram::encode_optimized does.
  void best(const uint8_t* word, size_t size, UnigramScratch& scratch) const {
    if (scratch.steps.size() <= size) scratch.steps.resize(size + size / 2 + 64);
    UnigramScratch::Step* const steps = scratch.steps.data();
    for (size_t i = 0; i <= size; ++i) steps[i].start = kUnreached;
    steps[0].score = 0;
    for (size_t at = 0, next; at < size; at = next) {
      next = std::min(at + character_size(word[at]), size);
      const double here = steps[at].score;
      const auto offer = [&](size_t end, double score, uint32_t id) {
        UnigramScratch::Step& step = steps[end];
        if (step.start == kUnreached || here + score > step.score) step = {here + score, static_cast<uint32_t>(at), id};
      };
      bool single = false;
      uint32_t node = 0;
      for (size_t end = at; end < size && (node = pieces_.child(node, word[end])) != 0;) {
        const uint32_t id = pieces_.key(node);
        if (++end == next) single = id != Trie::kNone;
        if (id != Trie::kNone) offer(end, scores_[id], id);
      }
      if (!single) offer(next, unknown_score_, unknown_);
    }
    follow(word, size, scratch);
  }

  static size_t character_size(uint8_t first) { return first < 0xC0 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4; }

  // Reads the best way from its end, then takes the ids in order; neighbours that are unknown become one string.
  void follow(const uint8_t* word, size_t size, UnigramScratch& scratch) const {
    const UnigramScratch::Step* const steps = scratch.steps.data();
    std::vector<uint32_t>&ends = scratch.ends, &ids = scratch.ids;
    ends.clear();
    ids.clear();
    for (size_t end = size; end > 0; end = steps[end].start) ends.push_back(static_cast<uint32_t>(end));
    for (size_t i = ends.size(); i-- > 0;) {
      const UnigramScratch::Step& step = steps[ends[i]];
      if (step.id != unknown_) {
        ids.push_back(step.id);
        continue;
      }
      while (i > 0 && steps[ends[i - 1]].id == unknown_) --i;
      take_unknown(word + step.start, word + ends[i], ids);
    }
  }

  // A string of unknown pieces may be a piece as a whole, or be spelled by bytes.
  void take_unknown(const uint8_t* p, const uint8_t* end, std::vector<uint32_t>& ids) const {
    const uint32_t id = pieces_.find(p, end);
    if (id != Trie::kNone) return ids.push_back(id);
    const auto is_piece = [this](uint8_t byte) { return bytes_[byte] != Trie::kNone; };
    if (!byte_fallback_ || !std::all_of(p, end, is_piece)) return ids.push_back(unknown_);
    for (; p < end; ++p) ids.push_back(bytes_[*p]);
  }

  Trie pieces_, added_;
  std::vector<double> scores_;
  Charsmap charsmap_;
  UnigramOptions options_;
  double unknown_score_ = 0;
  uint32_t unknown_ = 0;
  uint32_t bytes_[256] = {0};       // the pieces <0x00> to <0xFF>
  std::vector<uint32_t> mark_ids_;  // of a mark alone
  uint64_t stamp_ = 0;
  int only_first_ = -1;  // the first byte of all added tokens, if they have one
  bool has_added_ = false, byte_fallback_ = false;
  bool by_words_ = false;  // a space is always a space
  bool begins_added_[256] = {false};
  bool space_[256] = {false};  // ASCII whose normal form is a space
  uint8_t plain_[256] = {0};   // ASCII whose normal form is one visible ASCII character: that one
};

// One segment of a text: what is between two added tokens.
template <class Sink>
struct Unigram::Run {
  const Unigram& model;
  UnigramScratch& scratch;
  Sink& sink;
  bool started = false;     // the segment has had a word
  bool mark_first = false;  // its first word gets a mark even without a space before it
  size_t spaces = 0;        // normalized ones since the last word

  void segment(const uint8_t* p, const uint8_t* end, bool first) {
    const UnigramOptions& options = model.options_;
    started = false;
    mark_first = options.prepend == UnigramOptions::Always || (options.prepend == UnigramOptions::First && first);
    spaces = 0;
    if (options.trim_left) p = skip_white_space(p, end);
    if (options.trim_right) end = drop_white_space(p, end);
    if (!model.by_words_)
      stretch(p, end, true);
    else
      while (p < end) p = step(p, end);
    if (!options.split_whitespace && !options.strip_right) push_marks(spaces);
  }

  // Spaces and the word behind them. Returns where that ends.
  const uint8_t* step(const uint8_t* p, const uint8_t* end) {
    const size_t before = spaces;
    const uint8_t* const word = skip_spaces(p, end);
    const uint8_t* const stop = word_end(word, end);
    const size_t size = static_cast<size_t>(stop - word);
    if (size == 0) return stop;
    const bool cached = size <= WordCache::kMostBytes && marked();
    WordCache::Pair* pair = nullptr;
    WordCache::Key key{};
    if (NEST_LIKELY(cached)) {
      key = WordCache::key_of(word, size);
      pair = &scratch.words.pair(key);
      if (WordCache::Word* known = WordCache::find(*pair, key)) {
        WordCache::use(*known);
        push_spaces();
        sink.push(known->first);
        for (uint32_t i = 1; i < known->count; ++i) sink.push(known->others[i - 1]);
        return stop;
      }
    }
    switch (isolate(word, stop)) {
      case Form::Word:
        word_of_normal(scratch.normal.begin(), scratch.normal.end());
        if (cached && scratch.ids.size() <= WordCache::kMostIds) WordCache::keep(*pair, key, scratch.ids);
        return stop;
      case Form::Words:
        words_of_normal(scratch.normal.begin(), scratch.normal.end());
        return stop;
      case Form::Joined:
        spaces = before;
        stretch(p, stop, false);
        return stop;
      case Form::Open:
        break;
    }
    spaces = before;
    stretch(p, end, true);
    return end;
  }

  // What a raw word is: one word in itself; several or none; joined with the space before it; or with what follows.
  enum class Form { Word, Words, Joined, Open };

  // Brings a raw word into scratch.normal.
  Form isolate(const uint8_t* p, const uint8_t* end) {
    if (isolate_plain(p, end)) return Form::Word;
    const UnigramOptions& options = model.options_;
    if (options.fold || options.replace_quotes) {
      model.fold(p, end, scratch.folded);
      p = scratch.folded.begin();
      end = scratch.folded.end();
    }
    if (p == end) return scratch.normal.clear(), Form::Words;
    if (!model.charsmap_.empty()) {
      const uint8_t* first = p;
      const uint8_t* last = end;
      do --last;
      while (last > p && (*last & 0xC0) == 0x80);
      if (joins()[next_code_point(last)] == Join::Prepend) return Form::Open;
      if (extends(joins()[next_code_point(first)])) return options.strip_right ? Form::Open : Form::Joined;
    }
    model.map(p, end, scratch);
    return form_of_normal();
  }

  // A word of ASCII characters that stand for one each.
  bool isolate_plain(const uint8_t* p, const uint8_t* end) {
    scratch.normal.clear();
    uint8_t* out = scratch.normal.room(static_cast<size_t>(end - p));
    for (; p < end; ++p) {
      *out = model.plain_[*p];
      if (*out++ == 0 || (model.options_.replace_quotes && pair_of_quotes(p, end))) return false;
    }
    scratch.normal.take(out);
    return true;
  }

  Form form_of_normal() {
    const uint8_t* const begin = scratch.normal.begin();
    const uint8_t* const end = scratch.normal.end();
    if (begin == end) return Form::Words;
    if (model.options_.strip_right) {
      const uint8_t* last = end;
      while (last > begin && last[-1] == ' ') --last;
      if (last > begin && white_space_before(begin, last) > 0) return Form::Open;
    }
    if (model.options_.strip_left && white_space(begin, end) > 0) return Form::Words;
    return at_gap(begin, end) || gap(begin, end) < end ? Form::Words : Form::Word;
  }

  // Treats a raw stretch as a whole. last: the segment ends with it.
  NEST_NOINLINE void stretch(const uint8_t* p, const uint8_t* end, bool last) {
    model.normalize(p, end, scratch);
    const uint8_t* stop = scratch.normal.end();
    if (last && model.options_.strip_right) stop = drop_white_space(scratch.normal.begin(), stop);
    words_of_normal(scratch.normal.begin(), scratch.normal.begin() + (stop - scratch.normal.begin()));
  }

  // Splits normalized text into words.
  void words_of_normal(uint8_t* p, uint8_t* const end) {
    while (p < end) {
      const size_t white = white_space(p, end);
      if (*p == ' ' || (white > 0 && model.options_.split_whitespace)) {
        add_spaces(1);
        p += white;
      } else if (white > 0 && model.options_.strip_left && !started) {
        p += white;
      } else {
        uint8_t* const stop = p + (gap(p, end) - p);
        word_of_normal(p, stop);
        p = stop;
      }
    }
  }

  // One word, and the spaces before it. The mark may be written before its first byte.
  void word_of_normal(uint8_t* p, uint8_t* end) {
    if (at_mark(p, end)) {
      if (!model.options_.split_whitespace) push_marks(spaces);
      started = true;
      spaces = 0;
    } else {
      if (marked()) memcpy(p -= sizeof kMark, kMark, sizeof kMark);
      push_spaces();
    }
    model.best(p, static_cast<size_t>(end - p), scratch);
    for (const uint32_t id : scratch.ids) sink.push(id);
  }

  // Whether the next word gets a mark.
  bool marked() const {
    if (model.options_.split_whitespace) return mark_first;
    return spaces > 0 || (!started && mark_first);
  }

  // The spaces before a word that are not its own mark.
  NEST_INLINE void push_spaces() {
    if (NEST_UNLIKELY(spaces > 1 && !model.options_.split_whitespace)) push_marks(spaces - 1);
    started = true;
    spaces = 0;
  }

  void push_marks(size_t n) {
    for (; n > 0; --n)
      for (const uint32_t id : model.mark_ids_) sink.push(id);
  }

  NEST_INLINE void add_spaces(size_t n) {
    if (n == 0 || (model.options_.strip_left && !started)) return;
    spaces = model.options_.collapse_spaces ? 1 : spaces + n;
  }

  // Where the next word of normalized text begins, or the space before it; after p in any case.
  const uint8_t* gap(const uint8_t* p, const uint8_t* end) const {
    for (++p; p < end; ++p)
      if (at_gap(p, end)) break;
    return p;
  }

  bool at_gap(const uint8_t* p, const uint8_t* end) const {
    return *p == ' ' || at_mark(p, end) || (model.options_.split_whitespace && white_space(p, end) > 0);
  }

  const uint8_t* skip_spaces(const uint8_t* p, const uint8_t* end) {
    size_t n = 0;
    for (; p < end && model.space_[*p]; ++p, ++n)
      if (*p == '\r' && p + 1 < end && p[1] == '\n') ++p;
    add_spaces(n);
    return p;
  }

  // Looks at 8 bytes at once for one that is at most a space.
  const uint8_t* word_end(const uint8_t* p, const uint8_t* end) const {
    constexpr uint64_t kOnes = 0x0101010101010101ull;
    while (end - p >= 8) {
      uint64_t bytes;
      memcpy(&bytes, p, 8);
      const uint64_t low = (bytes - kOnes * (' ' + 1)) & ~bytes & kOnes * 0x80;
      if (low == 0) {
        p += 8;
        continue;
      }
      p += __builtin_ctzll(low) / 8;
      if (model.space_[*p]) return p;
      ++p;
    }
    while (p < end && !model.space_[*p]) ++p;
    return p;
  }
};

}  // namespace nestling
