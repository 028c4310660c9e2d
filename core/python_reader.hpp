// What reads texts for a transformer, in Python.
#pragma once

#include "contextual.hpp"
#include "python_encode.hpp"

namespace {

// A transformer, with or without its tokenizer. Shapes have been checked in model/blocks.py.
class Reader {
 public:
  // tokenizer: None where the core does not know it; then ids come from elsewhere.
  Reader(nb::object tokenizer, const std::string& isa) : tokenizer_object_(tokenizer), transformer_(kernels_of(isa)) {
    if (!tokenizer.is_none()) tokenizer_ = nb::cast<Tokenizer*>(tokenizer);
  }

  void rows_int8(Array<int8_t, 2> rows) { rows_.take(transformer_.table, rows); }
  void rows_float(Array<float, 2> rows) { rows_.take(transformer_.table, rows); }

  void tokens(size_t n, Maybe<Array<uint32_t, 1>> places, Maybe<Array<float, 1>> factors, float common,
              Maybe<Array<bool, 1>> coded, Maybe<Array<float, 1>> scales, const std::vector<uint32_t>& drop,
              bool sublinear) {
    rows_.tokens(transformer_.table, n, places, factors, common, coded, scales, drop, sublinear);
  }

  void shape(size_t inner, size_t first, size_t seen, size_t dim, size_t head, size_t longest, size_t layers) {
    check(transformer_.shape(inner, first, seen, dim, head, longest, layers));
  }

  // layer: of the blocks, or -1 for what is in none. values: (in, out), scales: (out,).
  void matrix(int layer, const std::string& name, Array<int8_t, 2> values, Array<float, 1> scales,
              Maybe<Array<float, 1>> bias) {
    const size_t in = values.shape(0), out = values.shape(1);
    check(scales.size() == out && (!bias || bias->size() == out), "scales or bias of another size");
    check(transformer_.matrix(layer, name, values.data(), in, out, keep(scales), bias ? keep(*bias) : nullptr));
  }

  void norm(int layer, const std::string& name, Maybe<Array<float, 1>> weights, Maybe<Array<float, 1>> bias,
            float epsilon) {
    const Blocks& b = transformer_.blocks();
    for (const auto& each : {weights, bias})
      check(!each || each->size() == (name == "seeing" ? b.seen : b.dim), "a norm of another size");
    check(transformer_.norm(layer, name, weights ? keep(*weights) : nullptr, bias ? keep(*bias) : nullptr, epsilon));
  }

  void weigh(Array<float, 1> weights) {
    check(weights.size() == transformer_.blocks().dim, "weights of another size");
    transformer_.weigh(keep(weights));
  }

  void rotary(Array<float, 2> cosines, Array<float, 2> sines) {
    const Blocks& b = transformer_.blocks();
    for (const auto& each : {cosines, sines})
      check(each.shape(0) == b.longest && each.shape(1) == b.head / 2, "positions of another size");
    transformer_.rotary(keep(cosines), keep(sines));
  }

  void places(Array<float, 2> vectors) {
    const Blocks& b = transformer_.blocks();
    check(vectors.shape(0) == b.longest && vectors.shape(1) == b.dim, "positions of another size");
    transformer_.places(keep(vectors));
  }

  const char* isa() const { return transformer_.isa(); }

  // Whether all is there that texts are read with.
  void ready() {
    check(transformer_.ready());
    ready_ = true;
  }

  // limit: below 0 for none. task: the id of the token before each text, below 0 for none. The rest as of Encoder.
  int64_t encode(nb::object texts, nb::object out, size_t dim, int64_t limit, bool stop_at_cut, bool normalize,
                 int dtype, size_t threads, int64_t task) {
    check(ready_, "blocks that are not ready");
    const Blocks& b = transformer_.blocks();
    const Table& table = transformer_.table;
    check(tokenizer_ && tokenizer_->size <= table.tokens(), "no tokenizer, or a table with fewer rows than its tokens");
    check(task < static_cast<int64_t>(table.tokens()), "a task that the table lacks");
    check(dim > 0 && dim <= b.vector && b.longest > 1 && limit != 0, "a dim that the vectors lack, or no tokens");
    EncodeOptions options = options_of(dim, limit, stop_at_cut, normalize, dtype);
    if (task >= 0) options.task = static_cast<size_t>(task);
    const auto make = [&] { return Scratch{tokenizer_->scratch(), {Parts(table), {}}}; };
    const auto work = [&](size_t n, const auto& text, const EncodeOptions& how, Scratch& scratch, uint8_t* rows) {
      return nestling::encode(*tokenizer_, transformer_, how, n, text, scratch.tokens, scratch.rest, rows);
    };
    return encoder_.encode(texts, out, options, threads, make, work);
  }

  // The sums of pieces of texts, whose tokens lie end to end: (total,), (total,), (n + 1,) -> (n, columns of a vector).
  nb::ndarray<nb::numpy, float, nb::ndim<2>> sums(Array<uint32_t, 1> ids, Array<float, 1> weights,
                                                  Array<int64_t, 1> starts, size_t threads) {
    check(ready_, "blocks that are not ready");
    const Blocks& b = transformer_.blocks();
    threads = std::min(std::max<size_t>(threads, 1), kMostThreads);
    check(starts.size() > 0 && starts.data()[0] == 0 && ids.size() == weights.size(), "pieces of another size");
    const size_t n = starts.size() - 1, tokens = transformer_.table.tokens();
    const int64_t* const at = starts.data();
    check(static_cast<size_t>(at[n]) == ids.size(), "pieces of another size");
    for (size_t i = 0; i < n; ++i)
      check(at[i] <= at[i + 1] && static_cast<size_t>(at[i + 1] - at[i]) <= b.longest, "a piece that is too long");
    for (size_t t = 0; t < ids.size(); ++t) check(ids.data()[t] < tokens, "an id that the table lacks");
    auto* const made = new std::vector<float>(n * b.vector);
    nb::capsule owner(made, [](void* p) noexcept { delete static_cast<std::vector<float>*>(p); });
    {
      nb::gil_scoped_release unlocked;
      const size_t unit = std::min<size_t>(32, std::max<size_t>(1, n / (threads * 8)));
      std::atomic<size_t> next{0};
      in_threads(std::min(threads, (n + unit - 1) / unit), [&] {
        std::unique_ptr<Transformer::Room> room = spare_.borrow([] { return std::make_unique<Transformer::Room>(); });
        for (size_t start; (start = next.fetch_add(unit)) < n;)
          transformer_.read(ids.data(), weights.data(), at + start, std::min(unit, n - start), *room,
                            made->data() + start * b.vector);
        spare_.give_back(std::move(room));
      });
    }
    return nb::ndarray<nb::numpy, float, nb::ndim<2>>(made->data(), {n, b.vector}, owner);
  }

 private:
  struct Scratch {
    TokenizerScratch tokens;
    ContextualScratch rest;
  };

  template <class T>
  const float* keep(T array) {
    kept_.push_back(nb::cast(array));
    return array.data();
  }

  bool ready_ = false;
  nb::object tokenizer_object_;
  const Tokenizer* tokenizer_ = nullptr;
  Transformer transformer_;
  Rows rows_;
  std::vector<nb::object> kept_;
  Spare<Transformer::Room> spare_;
  Encoder<Scratch> encoder_{{32, 2000, 0, 512}};
};

}  // namespace
