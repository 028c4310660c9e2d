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

#include "charsmap.hpp"

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

NEST_INLINE bool at_mark(const uint8_t* p, const uint8_t* end) {
  return *p == kMark[0] && end - p >= 3 && p[1] == kMark[1] && p[2] == kMark[2];
}

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

// A trie over bytes, as a double array: the child of a node by a byte is at the node's base XOR the byte, if the unit
// there bears that byte. No two nodes have the same base, so a byte is enough to tell whose child a unit is.
class Trie {
 public:
  static constexpr uint32_t kNone = 0xFFFFFF;  // and more keys there cannot be

  // Key i is blob[offsets[i]:offsets[i + 1]]; of equal ones the last stays. Empty ones are left out, and those with a
  // byte 0xFF, which no text has.
  void build(const uint8_t* blob, const uint32_t* offsets, size_t n) {
    struct Range {
      uint32_t node, from, to, depth;  // keys[from:to] begin with the same `depth` bytes
    };
    std::vector<Key> keys = keys_of(blob, offsets, n), spare;
    units_.assign(kBlock, {});  // the root, and where the children of leaves are looked for
    units_.reserve(n * 4 + 2 * kBlock);
    blocks_.assign(1, {});
    open_.clear();
    std::vector<Range> ranges = {{0, 0, static_cast<uint32_t>(keys.size()), 0}};
    std::vector<uint32_t> starts;
    std::vector<uint8_t> labels;
    while (!ranges.empty()) {
      const Range range = ranges.back();
      ranges.pop_back();
      if (range.to - range.from == 1) {
        add_tail(range.node, blob, keys[range.from], range.depth);
        continue;
      }
      sort(keys.data() + range.from, keys.data() + range.to, blob, range.depth, spare);
      uint32_t i = range.from;
      for (; i < range.to && keys[i].size == range.depth; ++i) units_[range.node].set_key(keys[i].key);
      starts.clear();
      labels.clear();
      for (; i < range.to; ++i) {
        const uint8_t label = static_cast<uint8_t>(keys[i].next(blob, range.depth) - 1);
        if (!labels.empty() && label == labels.back()) continue;
        starts.push_back(i);
        labels.push_back(label);
      }
      if (labels.empty()) continue;
      starts.push_back(range.to);
      const uint32_t base = units_[range.node].base = place(labels.data(), labels.size());
      for (size_t k = labels.size(); k-- > 0;)  // the first child is the next to be placed, and so lies near
        ranges.push_back({base ^ labels[k], starts[k], starts[k + 1], range.depth + 1});
    }
    units_.shrink_to_fit();
    blocks_ = std::vector<Block>();
  }

  // The node behind a node by a byte, 0 if there is none. The root is 0.
  NEST_INLINE uint32_t child(uint32_t node, uint8_t byte) const {
    const uint32_t found = units_[node].base ^ byte;
    return units_[found].label() == byte ? found : 0;
  }

  // The key that ends at a node, kNone if none does.
  NEST_INLINE uint32_t key(uint32_t node) const { return units_[node].key_and_label & kNone; }

  uint32_t find(const uint8_t* p, const uint8_t* end) const {
    uint32_t node = 0;
    for (; p < end; ++p)
      if ((node = child(node, *p)) == 0) return kNone;
    return key(node);
  }

 private:
  static constexpr uint32_t kBlock = 256;
  static constexpr size_t kOpen = 4;  // blocks that are tried for a place

  struct Unit {
    uint32_t base = 0;
    uint32_t key_and_label = kNone;  // low 24 bits, and the label's complement

    uint8_t label() const { return static_cast<uint8_t>(~key_and_label >> 24); }
    void set_label(uint8_t label) { key_and_label = (key_and_label & kNone) | ~uint32_t{label} << 24; }
    void set_key(uint32_t key) { key_and_label = (key_and_label & ~kNone) | key; }
  };
  struct Key {
    uint64_t head;  // the first 8 bytes, the first one on top
    uint32_t start, size, key;

    // The byte at a depth plus 1, 0 at the end.
    uint32_t next(const uint8_t* blob, uint32_t depth) const {
      if (depth == size) return 0;
      return 1 + (depth < 8 ? head >> (56 - 8 * depth) & 255 : blob[start + depth]);
    }
  };
  // Which units of a block are taken, and which bases in it.
  struct Block {
    uint64_t units[4] = {0}, bases[4] = {0};

    static bool has(const uint64_t* set, uint32_t i) { return set[i / 64] >> (i % 64) & 1; }
    static void add(uint64_t* set, uint32_t i) { set[i / 64] |= 1ull << (i % 64); }
  };

  static std::vector<Key> keys_of(const uint8_t* blob, const uint32_t* offsets, size_t n) {
    std::vector<Key> keys;
    keys.reserve(n);
    for (uint32_t i = 0; i < n; ++i) {
      Key key = {0, offsets[i], offsets[i + 1] - offsets[i], i};
      if (key.size == 0 || memchr(blob + key.start, 0xFF, key.size)) continue;
      for (uint32_t k = 0; k < 8; ++k) key.head = key.head << 8 | (k < key.size ? blob[key.start + k] : 0);
      keys.push_back(key);
    }
    return keys;
  }

  // By the byte at a depth, equal ones in the order that they have.
  static void sort(Key* from, Key* to, const uint8_t* blob, uint32_t depth, std::vector<Key>& spare) {
    if (to - from <= 24) {
      for (Key* i = from; i < to; ++i) {
        const Key key = *i;
        const uint32_t next = key.next(blob, depth);
        Key* k = i;
        for (; k > from && k[-1].next(blob, depth) > next; --k) *k = k[-1];
        *k = key;
      }
      return;
    }
    uint32_t places[258] = {0};
    for (const Key* i = from; i < to; ++i) ++places[i->next(blob, depth) + 1];
    for (int i = 0; i < 257; ++i) places[i + 1] += places[i];
    spare.assign(from, to);
    for (const Key& key : spare) from[places[key.next(blob, depth)]++] = key;
  }

  // The rest of a key that shares no more with others.
  void add_tail(uint32_t node, const uint8_t* blob, const Key& key, uint32_t depth) {
    for (; depth < key.size; ++depth) {
      const uint8_t label = blob[key.start + depth];
      const uint32_t base = units_[node].base = place(&label, 1);
      node = base ^ label;
    }
    units_[node].set_key(key.key);
  }

  // Makes children by these labels, in one of the open blocks or in a new one. Returns their base.
  uint32_t place(const uint8_t* labels, size_t n) {
    for (size_t i = 0; i < open_.size(); ++i) {
      const uint32_t block = open_[i];
      const uint32_t base = base_in(blocks_[block], labels, n);
      if (base < kBlock) return take(block, base, labels, n);
      if (n > 1) continue;
      open_.erase(open_.begin() + static_cast<std::ptrdiff_t>(i--));  // not even a single child finds a place
    }
    if (open_.size() == kOpen) open_.erase(open_.begin());
    open_.push_back(static_cast<uint32_t>(blocks_.size()));
    blocks_.push_back({});
    units_.resize(units_.size() + kBlock);
    return take(open_.back(), 0, labels, n);
  }

  // A base that is not taken, from which all units for these labels are free; kBlock if there is none.
  static uint32_t base_in(const Block& block, const uint8_t* labels, size_t n) {
    for (uint32_t word = 0; word < 4; ++word) {
      for (uint64_t free = ~block.units[word]; free != 0; free &= free - 1) {
        const uint32_t base = (word * 64 + static_cast<uint32_t>(__builtin_ctzll(free))) ^ labels[0];
        if (Block::has(block.bases, base)) continue;
        size_t i = 1;
        while (i < n && !Block::has(block.units, base ^ labels[i])) ++i;
        if (i == n) return base;
      }
    }
    return kBlock;
  }

  uint32_t take(uint32_t block, uint32_t base, const uint8_t* labels, size_t n) {
    Block::add(blocks_[block].bases, base);
    for (size_t i = 0; i < n; ++i) {
      Block::add(blocks_[block].units, base ^ labels[i]);
      units_[block * kBlock + (base ^ labels[i])].set_label(labels[i]);
    }
    return block * kBlock + base;
  }

  std::vector<Unit> units_;
  std::vector<Block> blocks_;   // while building
  std::vector<uint32_t> open_;  // blocks that may have places
};

// Bytes that grow, and are used again for the next text. kFront of them may be written before the first.
class Buffer {
 public:
  static constexpr size_t kFront = sizeof kMark;

  void clear() { size_ = kFront; }
  uint8_t* begin() { return bytes_.data() + kFront; }
  uint8_t* end() { return bytes_.data() + size_; }
  bool empty() const { return size_ == kFront; }

  NEST_INLINE void push(uint8_t byte) { *room(1) = byte, ++size_; }
  NEST_INLINE void append(const uint8_t* p, size_t size) {
    if (size > 0) memcpy(room(size), p, size), size_ += size;
  }
  // At least so many bytes to be written to, then taken by `take`.
  NEST_INLINE uint8_t* room(size_t size) {
    if (NEST_UNLIKELY(bytes_.size() - size_ < size)) bytes_.resize(size_ + size + bytes_.size());
    return bytes_.data() + size_;
  }
  void take(const uint8_t* end) { size_ = static_cast<size_t>(end - bytes_.data()); }

  void release_if_over(size_t limit) {
    if (bytes_.size() > limit) bytes_ = std::vector<uint8_t>(kFirst), clear();
  }

 private:
  static constexpr size_t kFirst = 1024;
  std::vector<uint8_t> bytes_ = std::vector<uint8_t>(kFirst);
  size_t size_ = kFront;
};

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
