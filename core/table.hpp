// The rows of a static model in memory, and the sums of those of a text.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "kernels.hpp"

namespace nestling {

// The sum of a block of tokens is (docs/format.md)
//   scales * (sum of factor[t] * row[place[t]] over coded tokens) + (the same sum over the others);
// product codes are unfolded to int8 rows before, by unfold_product.
inline void unfold_product(const uint8_t* codes, const int8_t* words, const uint32_t* widths, size_t blocks, size_t n,
                           size_t dim, int8_t* rows) {
  for (size_t i = 0; i < n; ++i, rows += dim)
    for (size_t b = 0, column = 0; b < blocks; column += widths[b++])
      memcpy(rows + column, words + size_t{*codes++} * dim + column, widths[b]);
}

// What the occurrences of a token in a text weigh where repeats count less: k of them weigh the root of k together.
// From the 255th on they weigh what that one does, so that a byte can count them.
using RepeatWeights = std::array<float, 255>;
inline RepeatWeights repeat_weights() {
  RepeatWeights weights;
  double before = 0, times = 0;
  for (float& weight : weights) {
    const double root = std::sqrt(++times);
    weight = static_cast<float>(root - before);
    before = root;
  }
  return weights;
}

class Table {
 public:
  // The rows are the caller's and must outlive the table: dim columns each, int8 or float32.
  void set_rows(const int8_t* rows, size_t dim) { int8_ = rows, float_ = nullptr, dim_ = dim; }
  void set_rows(const float* rows, size_t dim) { float_ = rows, int8_ = nullptr, dim_ = dim; }

  // For n tokens: places, null where token t has row t; factors, null where all have `common`, which is then applied to
  // the sum; coded: those whose sum is multiplied by the scale of each column, null for none. sublinear: a token's
  // factor is multiplied by the repeat weight of its occurrence.
  void set_tokens(size_t n, const uint32_t* places, const float* factors, float common, const uint8_t* coded,
                  const float* scales, bool sublinear) {
    tokens_ = n;
    sublinear_ = sublinear;
    common_ = common;
    if (places) places_.assign(places, places + n);
    if (factors) factors_.assign(factors, factors + n);
    if (coded) coded_.assign(coded, coded + n), scales_.assign(scales, scales + dim_);
    if (coded && !factors) factors_.assign(n, 1.0f);
    dropped_.assign(n, 0);
  }

  void drop(uint32_t token) { dropped_[token] = 1; }
  bool dropped(uint32_t token) const { return dropped_[token]; }

  // What the next occurrence of a token in a text weighs, which came so many times before.
  NEST_INLINE float repeat_weight(uint8_t& times) const {
    const float weight = repeats_[times];
    times = static_cast<uint8_t>(times + (times + 1u < repeats_.size()));
    return weight;
  }

  size_t dim() const { return dim_; }
  size_t tokens() const { return tokens_; }
  bool sublinear() const { return sublinear_; }

  // The row of a token, dropped or not: dim columns of `out`.
  void row(uint32_t token, float* out) const {
    const size_t start = (places_.empty() ? token : places_[token]) * dim_;
    const float factor = factors_.empty() ? common_ : factors_[token];
    if (int8_)
      for (size_t d = 0; d < dim_; ++d) out[d] = static_cast<float>(int8_[start + d]);
    else
      for (size_t d = 0; d < dim_; ++d) out[d] = float_[start + d];
    if (!coded_.empty() && coded_[token])
      for (size_t d = 0; d < dim_; ++d) out[d] *= scales_[d];
    for (size_t d = 0; d < dim_; ++d) out[d] *= factor;
  }

  // Ask for the row of a token, which will be needed soon.
  NEST_INLINE void prefetch(uint32_t token) const {
    const size_t place = places_.empty() ? token : places_[token];
    if (int8_) {
      const int8_t* row = int8_ + place * dim_;
      for (size_t b = 0; b < dim_ && b < 256; b += 64) NEST_PREFETCH(row + b);
    } else {
      const float* row = float_ + place * dim_;
      for (size_t b = 0; b < dim_ && b < 256; b += 16) NEST_PREFETCH(row + b);
    }
  }

  // sums[d] = sum of the rows of n <= kMostRows tokens, dropped ones left out. Returns how many were not.
  // spare: dim floats of room. met: how often each token came before in this text, in a sublinear table.
  size_t add(const Kernels& kernels, const uint32_t* ids, size_t n, size_t dim, float* sums, float* spare,
             uint8_t* met) const {
    uint32_t places[kMostRows];
    float weights[kMostRows], repeats[kMostRows];
    if (sublinear_)
      weigh_repeats(ids, n, met, repeats);
    else
      std::fill_n(repeats, n, 1.0f);
    if (coded_.empty()) {
      const size_t kept = choose(ids, n, repeats, places, weights);
      sum(kernels, places, factors_.empty() && !sublinear_ ? nullptr : weights, kept, dim, sums);
      if (factors_.empty() && common_ != 1)
        for (size_t d = 0; d < dim; ++d) sums[d] *= common_;
      return kept;
    }
    size_t coded = 0, exact = kMostRows;  // coded ones from the front, the others from the back
    for (size_t i = 0; i < n; ++i) {
      const uint32_t id = ids[i];
      if (dropped_[id]) continue;
      const size_t at = coded_[id] ? coded++ : --exact;
      places[at] = places_.empty() ? id : places_[id];
      weights[at] = factors_[id] * repeats[i];
    }
    sum(kernels, places, weights, coded, dim, sums);
    std::reverse(places + exact, places + kMostRows), std::reverse(weights + exact, weights + kMostRows);
    sum(kernels, places + exact, weights + exact, kMostRows - exact, dim, spare);
    for (size_t d = 0; d < dim; ++d) sums[d] = sums[d] * scales_[d] + spare[d];
    return coded + kMostRows - exact;
  }

 private:
  NEST_NOINLINE void weigh_repeats(const uint32_t* ids, size_t n, uint8_t* met, float* repeats) const {
    for (size_t i = 0; i < n; ++i) repeats[i] = repeat_weight(met[ids[i]]);
  }

  NEST_INLINE size_t choose(const uint32_t* ids, size_t n, const float* repeats, uint32_t* places,
                            float* weights) const {
    size_t kept = 0;
    for (size_t i = 0; i < n; ++i) {
      const uint32_t id = ids[i];
      places[kept] = places_.empty() ? id : places_[id];
      weights[kept] = factors_.empty() ? repeats[i] : factors_[id] * repeats[i];
      kept += !dropped_[id];
    }
    return kept;
  }

  void sum(const Kernels& kernels, const uint32_t* places, const float* weights, size_t n, size_t dim,
           float* sums) const {
    if (int8_)
      kernels.add_int8(int8_, dim_, places, weights, n, dim, sums);
    else
      kernels.add_float(float_, dim_, places, weights, n, dim, sums);
  }

  const int8_t* int8_ = nullptr;
  const float* float_ = nullptr;
  size_t dim_ = 0, tokens_ = 0;
  float common_ = 1;              // the factor of all tokens, where they have one
  bool sublinear_ = false;        // whether repeats count less
  RepeatWeights repeats_ = repeat_weights();
  std::vector<float> scales_;     // of each column, for coded tokens
  std::vector<uint8_t> coded_;    // by token; empty: none is
  std::vector<uint32_t> places_;  // by token; empty: its id
  std::vector<float> factors_;    // by token; empty: common_
  std::vector<uint8_t> dropped_;  // by token
};

}  // namespace nestling
