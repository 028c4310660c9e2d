// From texts to vectors through a transformer: each text's tokens in parts within its limit, a task's token before each.
#pragma once

#include "output.hpp"
#include "tokenizer.hpp"
#include "transformer.hpp"

namespace nestling {

// Parts of texts that are read in one go, and what each of their tokens weighs. A text's tokens come in by push.
class Parts {
 public:
  explicit Parts(const Table& table) : table_(table), repeats_(table.sublinear() ? table.tokens() : 0) {}

  void push(uint32_t id) {
    if (table_.dropped(id)) return;
    ids_.push_back(id);
    weights_.push_back(repeats_.empty() ? 1.0f : table_.repeat_weight(repeats_[id]));
  }
  void push_if(uint32_t id, bool taken) {
    if (taken) push(id);
  }
  bool full() const { return false; }
  void drain() {}

  // Tokens of the text that came in last.
  size_t met() const { return ids_.size() - begun_; }

  // The text is over: keep `most` of its tokens, in parts of up to `room`, with a token before each part if there is one.
  void end_text(size_t most, size_t room, const uint32_t* task) {
    for (size_t t = begun_; t < ids_.size() && !repeats_.empty(); ++t) repeats_[ids_[t]] = 0;
    const size_t size = std::min(met(), most);
    ids_.resize(begun_ + size), weights_.resize(begun_ + size);
    const size_t parts = (size + room - 1) / room;
    if (task && parts) spread(size, room, parts, *task);
    for (size_t part = 0, left = size; part < parts; ++part) {
      const size_t taken = std::min(left, room);
      left -= taken;
      starts_.push_back(starts_.back() + static_cast<int64_t>(taken + (task != nullptr)));
    }
    parts_.push_back(starts_.size() - 1);
    begun_ = ids_.size();
  }

  size_t texts() const { return parts_.size() - 1; }
  size_t tokens() const { return begun_; }

  // Gives of each text the sum over all of its tokens, (columns,), and how many these are; then all are forgotten.
  template <class Put>
  void read(const Transformer& transformer, Transformer::Room& room, const Put& put) {
    const size_t columns = transformer.blocks().vector;
    sums_.assign(starts_.size() * columns, 0);  // those of a text without parts last
    transformer.read(ids_.data(), weights_.data(), starts_.data(), starts_.size() - 1, room, sums_.data());
    for (size_t text = 0; text < texts(); ++text) {
      const size_t first = parts_[text], last = parts_[text + 1];
      float* const sum = sums_.data() + (first < last ? first : starts_.size() - 1) * columns;
      for (size_t part = first + 1; part < last; ++part)
        for (size_t d = 0; d < columns; ++d) sum[d] += sums_[part * columns + d];
      put(text, sum, columns, static_cast<size_t>(starts_[last] - starts_[first]));
    }
    ids_.clear(), weights_.clear(), starts_.resize(1), parts_.resize(1);
    begun_ = 0;
    if (ids_.capacity() > kKept) ids_ = std::vector<uint32_t>(), weights_ = std::vector<float>();
    if (sums_.capacity() > kKept) sums_ = std::vector<float>();
  }

 private:
  static constexpr size_t kKept = 1 << 17;  // values: a very long text does not hold memory for ever

  // Moves the last text's tokens apart, the last ones first, so that each part begins with the task's.
  void spread(size_t size, size_t room, size_t parts, uint32_t task) {
    ids_.resize(begun_ + size + parts), weights_.resize(begun_ + size + parts);
    for (size_t part = parts; part-- > 0;) {
      const size_t from = begun_ + part * room, to = from + part, taken = std::min(room, size - part * room);
      std::copy_backward(ids_.data() + from, ids_.data() + from + taken, ids_.data() + to + 1 + taken);
      std::copy_backward(weights_.data() + from, weights_.data() + from + taken, weights_.data() + to + 1 + taken);
      ids_[to] = task, weights_[to] = 1;
    }
  }

  const Table& table_;
  std::vector<uint8_t> repeats_;  // how often each token came before in its text, for sublinear tables
  std::vector<uint32_t> ids_;
  std::vector<float> weights_, sums_;
  std::vector<int64_t> starts_{0};  // of the parts
  std::vector<size_t> parts_{0};    // the first of each text
  size_t begun_ = 0;                // where the last text begins
};

// What a thread needs, besides its tokenizer's, while it embeds texts with one transformer.
struct ContextualScratch {
  Parts parts;
  Transformer::Room room;
};

// Embeds n texts into rows of `out`, as in static.hpp.
template <class Text>
EncodeResult encode(const Tokenizer& tokenizer, const Transformer& transformer, const EncodeOptions& options, size_t n,
                    const Text& text, TokenizerScratch& tokens, ContextualScratch& scratch, void* out) {
  constexpr size_t kTokens = 2048;  // about, that are read in one go
  EncodeResult result;
  Parts& parts = scratch.parts;
  const bool with_task = options.task != EncodeOptions::kNoTask;
  const uint32_t task = static_cast<uint32_t>(options.task);
  const size_t room = transformer.blocks().longest - with_task;
  const size_t most = options.limit == SIZE_MAX ? SIZE_MAX : options.limit - with_task;
  const size_t width = row_bytes(options.dtype, options.dim);
  size_t done = 0;
  const auto put = [&](size_t i, float* sum, size_t columns, size_t count) {
    if (!std::all_of(sum, sum + columns, [](float x) { return std::isfinite(x); })) {
      if (result.finite && done + i < result.bad) result.bad = done + i, result.finite = false;
      return;
    }
    put_vector(sum, options.dim, count, options.normalize, options.dtype,
               static_cast<uint8_t*>(out) + (done + i) * width);
  };
  const auto read = [&] {
    const size_t texts = parts.texts();
    parts.read(transformer, scratch.room, put);
    done += texts;
  };
  for (size_t i = 0; i < n && result.bad == SIZE_MAX; ++i) {
    const Bytes bytes = text(i);
    if (bytes.data) tokenizer.encode(bytes, tokens, parts);
    const bool cut = parts.met() > most;
    result.cut += cut;
    parts.end_text(most, room, with_task ? &task : nullptr);
    if (!bytes.data || (cut && options.stop_at_cut)) result.bad = i;
    if (parts.tokens() >= kTokens) read();
  }
  read();
  return result;
}

}  // namespace nestling
