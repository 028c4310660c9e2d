// A small transformer: a table, blocks, and the way from tokens to sums of rows.
#pragma once

#include <algorithm>
#include <memory>
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
  // What a thread needs.
  struct Room {
    Aligned<float> rows, x, held, joined, mixed, wide, keys, near, sizes;
    Aligned<uint8_t> acts;
    std::vector<int64_t> starts;
  };

  Table table;
  Blocks blocks;  // of which pointers are the caller's, but for those that `hold` gives

  explicit Transformer(const Kernels* kernels) : kernels_(kernels) {}
  Transformer(const Transformer&) = delete;

  const char* isa() const { return kernels_->name; }
  void layers(size_t n) { own_.resize(n), blocks.blocks = own_.data(), blocks.layers = n; }
  Block& layer(size_t i) { return own_[i]; }

  // Takes the values of a matrix, (in, out) int8, which may go then.
  void hold(Matrix& matrix, const int8_t* values, size_t in, size_t out) {
    packed_.emplace_back(), starts_.emplace_back();
    int8_t* const packed = packed_.back().at_least(in * out);
    int32_t* const starts = starts_.back().at_least(out);
    kernels_->pack(values, in, out, packed, starts);
    matrix.in = in, matrix.out = out, matrix.values = packed, matrix.starts = starts;
  }

  // How many pieces from the first on are worth reading at once: enough tokens to make use of the matrices while they
  // are near, few enough to stay so themselves.
  static size_t at_once(const int64_t* starts, size_t n) {
    constexpr int64_t kTokens = 256;
    size_t taken = n > 0;
    while (taken < n && starts[taken + 1] - starts[0] <= kTokens) ++taken;
    return taken;
  }

  // The sums of n pieces of at most blocks.longest tokens, which lie end to end: (n, blocks.vector()), to be filled.
  // weights: of the rows of the tokens.
  void read(const uint32_t* ids, const float* weights, const int64_t* starts, size_t n, Room& room, float* sums) const {
    const size_t stride = blocks.stride;
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
      kernels_->read(blocks, {rows, room.starts.data(), taken}, with_room(room, total, longest), sums);
      sums += taken * blocks.vector();
      start += taken;
    }
  }

 private:
  BlocksRoom with_room(Room& room, size_t total, size_t longest) const {
    const size_t dim = blocks.dim, padded = (longest + kStrip - 1) / kStrip * kStrip;
    size_t feed = 0;
    for (const Block& each : own_) feed = std::max(feed, each.wide.out);
    const size_t widest = std::max({feed, dim, blocks.seen});
    return {room.x.at_least(total * dim),
            room.held.at_least(kTile * widest),
            room.joined.at_least(total * 3 * dim),
            room.mixed.at_least(total * dim),
            room.wide.at_least(kTile * feed),
            room.keys.at_least(blocks.head * padded),
            room.near.at_least(std::max(kTile * padded, total)),
            room.sizes.at_least(kTile),
            room.acts.at_least(kTile * widest * 2)};
  }

  const Kernels* kernels_;
  std::vector<Block> own_;
  std::vector<Aligned<int8_t>> packed_;
  std::vector<Aligned<int32_t>> starts_;
};

}  // namespace nestling
