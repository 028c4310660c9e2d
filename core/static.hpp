// A static model: the tokenizer and the table, and the way from texts to vectors.
#pragma once

#include <memory>

#include "output.hpp"
#include "table.hpp"
#include "tokenizer.hpp"

namespace nestling {

// Takes the tokens of one text: pools them as blocks fill up, so that a text of any length needs no more room.
class Pool {
 public:
  static constexpr size_t kRoom = kMostRows + 1100;  // a word may add 1,000 tokens to a block that is nearly full

  void start(const Table& table, const Kernels& kernels, size_t dim, size_t limit) {
    table_ = &table, kernels_ = &kernels, dim_ = dim, limit_ = limit;
    forget();
    held_ = met_ = pooled_ = 0;
    blocks_ = false;
    if (sums_.size() < dim) sums_.resize(dim), total_.resize(dim), spare_.resize(dim);
  }

  NEST_INLINE void push(uint32_t id) {
    ids_[held_++] = id;
    table_->prefetch(id);
  }
  NEST_INLINE void push_if(uint32_t id, bool taken) {
    ids_[held_] = id;
    held_ += taken;
  }
  NEST_INLINE bool full() const { return held_ >= kMostRows; }
  NEST_NOINLINE void drain() {
    while (held_ >= kMostRows) {
      block(kMostRows);
      held_ -= kMostRows;
      memmove(ids_, ids_ + kMostRows, held_ * sizeof *ids_);
    }
  }

  // The sum of all rows, when the text is over.
  float* finish() {
    drain();
    if (held_ || !blocks_) block(held_);
    return total_.data();
  }
  size_t pooled() const { return pooled_; }
  size_t met() const { return met_; }
  bool cut() const { return met_ > limit_; }

 private:
  // No token has been met. Of a text of one block the tokens are still here.
  void forget() {
    const size_t tokens = table_->sublinear() ? table_->tokens() : 0;
    if (repeats_.size() != tokens || met_ > held_)
      repeats_.assign(tokens, 0);
    else if (tokens > 0)
      for (size_t i = 0; i < held_; ++i) repeats_[ids_[i]] = 0;
  }

  NEST_NOINLINE void block(size_t n) {
    const size_t within = met_ >= limit_ ? 0 : n < limit_ - met_ ? n : limit_ - met_;
    met_ += n;
    float* const sums = blocks_ ? sums_.data() : total_.data();
    pooled_ += table_->add(*kernels_, ids_, within, dim_, sums, spare_.data(), repeats_.data());
    if (blocks_)
      for (size_t d = 0; d < dim_; ++d) total_[d] += sums[d];
    blocks_ = true;
  }

  const Table* table_ = nullptr;
  const Kernels* kernels_ = nullptr;
  size_t dim_ = 0, limit_ = 0, held_ = 0;
  size_t met_ = 0, pooled_ = 0;  // tokens that went through block(), and those of them that count
  bool blocks_ = false;          // whether total_ holds something
  std::vector<float> sums_, total_, spare_;
  std::vector<uint8_t> repeats_;  // how often each token has been met, for sublinear tables
  uint32_t ids_[kRoom];
};

// What a thread needs while it embeds texts with one model.
struct Scratch {
  TokenizerScratch tokens;
  Pool pools[2];
};

// Embeds n texts into rows of `out`. text(i) gives a text's valid UTF-8, null data if it cannot be had; the bytes are
// needed until the next is asked for. While a text is tokenized the rows of the one before are on their way.
template <class Text>
EncodeResult encode(const Tokenizer& tokenizer, const Table& table, const Kernels& kernels,
                    const EncodeOptions& options, size_t n, const Text& text, Scratch& scratch, void* out) {
  EncodeResult result;
  const size_t width = row_bytes(options.dtype, options.dim);
  const auto put = [&](size_t i) {
    Pool& pool = scratch.pools[i & 1];
    float* sums = pool.finish();
    if (pool.cut() && ++result.cut && options.stop_at_cut && result.bad == SIZE_MAX) result.bad = i;
    put_vector(sums, options.dim, pool.pooled(), options.normalize, options.dtype,
               static_cast<uint8_t*>(out) + i * width);
  };
  for (size_t i = 0; i < n; ++i) {
    const Bytes bytes = text(i);
    if (bytes.data == nullptr) return result.bad = i, result;
    Pool& pool = scratch.pools[i & 1];
    pool.start(table, kernels, options.dim, options.limit);
    tokenizer.encode(bytes, scratch.tokens, pool);
    if (i > 0) put(i - 1);
    if (result.bad != SIZE_MAX) return result;
  }
  if (n > 0) put(n - 1);
  return result;
}

}  // namespace nestling
