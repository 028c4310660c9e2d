// The pieces of a vocabulary as a trie: all that a text begins with, in one walk over its bytes.
#pragma once

#include <algorithm>
#include <vector>

#include "bytes.hpp"

namespace nestling {

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

}  // namespace nestling
