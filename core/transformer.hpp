// A small transformer: a table, blocks, and the way from tokens to sums of rows.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "blocks.hpp"
#include "table.hpp"

namespace nestling {

// Memory that begins where a cache line does.
template <class T>
class Aligned {
 public:
  // So many, whose values are those that were there, or none in particular.
  T* at_least(size_t size) {
    if (size > size_) {
      room_.reset(new uint8_t[size * sizeof(T) + kLine]);
      size_ = size;
      const size_t over = reinterpret_cast<uintptr_t>(room_.get()) % kLine;
      data_ = reinterpret_cast<T*>(room_.get() + (kLine - over) % kLine);
    }
    return data_;
  }

 private:
  static constexpr size_t kLine = 64;
  std::unique_ptr<uint8_t[]> room_;
  T* data_ = nullptr;
  size_t size_ = 0;
};

class Transformer {
 public:
  static constexpr size_t kMostColumns = 65536;  // of which products of bytes add up to what int32 holds

  // What a thread needs.
  struct Room {
    Aligned<float> rows, x, held, joined, mixed, wide, keys, near, sizes;
    Aligned<uint8_t> acts;
    std::vector<int64_t> starts;
  };

  Table table;

  explicit Transformer(const Kernels* kernels) : kernels_(kernels) {}
  Transformer(const Transformer&) = delete;

  const Blocks& blocks() const { return blocks_; }
  const char* isa() const { return kernels_->name; }

  // What follows builds it: the shape first, `ready` last. What is wrong is returned, or null. Values of matrices may go
  // then; all other pointers are the caller's, and stay.

  const char* shape(size_t inner, size_t first, size_t seen, size_t dim, size_t head, size_t longest, size_t layers) {
    Blocks& b = blocks_;
    for (const size_t columns : {inner, seen, dim, head})
      if (columns % kStrip) return "columns that are no multiple of sixteen";
    b.stride = table.dim();
    if (!seen || inner > b.stride || first > b.stride || seen > b.stride - first) return "columns that the rows lack";
    if (!head || !dim || dim % head) return "heads that do not add up";
    const size_t room = SIZE_MAX / 8 / std::max(3 * dim, b.stride);  // tokens of which all columns can be held
    if (dim > kMostColumns || b.stride > 2 * kMostColumns || longest > room - std::min(room, kTokens))
      return "too many columns, or tokens at once";
    b.inner = inner, b.first = first, b.seen = seen, b.dim = dim, b.head = head, b.longest = longest;
    b.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(head)));
    own_.resize(layers), b.blocks = own_.data(), b.layers = layers;
    return nullptr;
  }

  // layer: of the blocks, or below 0 for what is in none. values: (in, out), scales and bias: (out,).
  const char* matrix(int layer, const std::string& name, const int8_t* values, size_t in, size_t out,
                     const float* scales, const float* bias) {
    Matrix* found = nullptr;
    if (layer < 0)
      found = name == "up" ? &blocks_.up : name == "back" ? &blocks_.back : name == "out" ? &blocks_.out : nullptr;
    else if (static_cast<size_t>(layer) < own_.size()) {
      Block& block = own_[static_cast<size_t>(layer)];
      found = name == "queries_keys_values" ? &block.queries_keys_values
              : name == "attended"          ? &block.attended
              : name == "wide"              ? &block.wide
              : name == "narrow"            ? &block.narrow
                                            : nullptr;
    }
    if (!found) return "an unknown matrix";
    if (!in || !out || in % kStrip || out % kStrip) return "columns that are no multiple of sixteen";
    if (in > kMostColumns || out > 3 * kMostColumns) return "too many columns";
    packed_.emplace_back(), starts_.emplace_back();
    int8_t* const packed = packed_.back().at_least(in * out);
    int32_t* const starts = starts_.back().at_least(out);
    kernels_->pack(values, in, out, packed, starts);
    *found = {in, out, packed, starts, scales, bias};
    return nullptr;
  }

  const char* norm(int layer, const std::string& name, const float* weights, const float* bias, float epsilon) {
    Norm* found = nullptr;
    if (layer < 0)
      found = name == "seeing" ? &blocks_.seeing
              : name == "input" ? &blocks_.input
              : name == "last"  ? &blocks_.last
                                : nullptr;
    else if (static_cast<size_t>(layer) < own_.size())
      found = name == "attention" ? &own_[static_cast<size_t>(layer)].attention
              : name == "feed"    ? &own_[static_cast<size_t>(layer)].feed
                                  : nullptr;
    if (!found) return "an unknown norm";
    *found = {weights, bias, epsilon};
    return nullptr;
  }

  void weigh(const float* weights) { blocks_.weigh = weights; }
  void rotary(const float* cosines, const float* sines) { blocks_.cosines = cosines, blocks_.sines = sines; }
  void places(const float* vectors) { blocks_.places = vectors, blocks_.rotary = false; }

  const char* ready() {
    Blocks& b = blocks_;
    b.vector = b.inner ? b.inner : b.out.in ? b.out.out : b.dim;
    const auto fits = [](const Matrix& m, size_t in, size_t out) { return m.in == in && m.out == out; };
    bool fine = b.dim > 0 && b.stride == table.dim() && fits(b.up, b.seen, b.dim);
    fine = fine && (b.rotary ? b.cosines && b.sines && b.last.weights : b.input.weights != nullptr);
    fine = fine && (!b.inner || b.weigh) && (!b.back.in || fits(b.back, b.dim, b.inner));
    fine = fine && (!b.out.in || (b.out.in == b.dim && !b.inner));
    for (const Block& block : own_) {
      fine = fine && fits(block.queries_keys_values, b.dim, 3 * b.dim) && fits(block.attended, b.dim, b.dim);
      fine = fine && fits(block.wide, b.dim, block.narrow.in) && fits(block.narrow, block.wide.out, b.dim);
      fine = fine && block.attention.weights && block.feed.weights;
    }
    return fine ? nullptr : "blocks that do not fit one another";
  }

  // The sums of n pieces of at most `longest` tokens, which lie end to end: (n, columns of a vector), to be filled.
  // weights: what each token counts.
  void read(const uint32_t* ids, const float* weights, const int64_t* starts, size_t n, Room& room, float* sums) const {
    const size_t stride = blocks_.stride;
    for (size_t start = 0; start < n;) {
      const size_t taken = at_once(starts + start, n - start);
      const int64_t first = starts[start];
      const size_t total = static_cast<size_t>(starts[start + taken] - first);
      room.starts.resize(taken + 1);
      size_t longest = 0;
      for (size_t i = 0; i <= taken; ++i) room.starts[i] = starts[start + i] - first;
      for (size_t i = 0; i < taken; ++i)
        longest = std::max(longest, static_cast<size_t>(room.starts[i + 1] - room.starts[i]));
      float* const rows = room.rows.at_least(total * stride);
      for (size_t t = 0; t < total; ++t) {
        const size_t token = static_cast<size_t>(first) + t;
        float* const row = rows + t * stride;
        table.row(ids[token], row);
        for (size_t d = 0; d < stride; ++d) row[d] *= weights[token];
      }
      kernels_->read(blocks_, {rows, weights + first, room.starts.data(), taken}, with_room(room, total, longest), sums);
      sums += taken * blocks_.vector;
      start += taken;
    }
  }

 private:
  static constexpr size_t kTokens = 256;  // that pieces read at once have together, if they are several

  // How many pieces from the first on are worth reading at once: enough tokens to make use of the matrices while they
  // are near, few enough to stay so themselves.
  static size_t at_once(const int64_t* starts, size_t n) {
    size_t taken = n > 0;
    while (taken < n && static_cast<size_t>(starts[taken + 1] - starts[0]) <= kTokens) ++taken;
    return taken;
  }

  BlocksRoom with_room(Room& room, size_t total, size_t longest) const {
    const size_t dim = blocks_.dim, padded = (longest + kStrip - 1) / kStrip * kStrip;
    size_t feed = 0;
    for (const Block& each : own_) feed = std::max(feed, each.wide.out);
    const size_t widest = std::max({feed, dim, blocks_.seen});
    return {room.x.at_least(total * dim),
            room.held.at_least(kTile * widest),
            room.joined.at_least(total * 3 * dim),
            room.mixed.at_least(total * dim),
            room.wide.at_least(kTile * feed),
            room.keys.at_least(blocks_.head * padded),
            room.near.at_least(std::max(kTile * padded, total)),
            room.sizes.at_least(kTile),
            room.acts.at_least(kTile * widest * 2)};
  }

  const Kernels* kernels_;
  Blocks blocks_;
  std::vector<Block> own_;  // those of the blocks
  std::vector<Aligned<int8_t>> packed_;
  std::vector<Aligned<int32_t>> starts_;
};

}  // namespace nestling
