// The core in Python: reads str objects where they lie, works without the interpreter's lock, writes into arrays.
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>

#include "python_reader.hpp"
#include "static.hpp"

namespace {

using Added = std::vector<std::tuple<std::string, uint32_t, bool, bool>>;

// --- tokenizer ---

std::vector<AddedToken> added_tokens(const Added& added) {
  std::vector<AddedToken> tokens;
  for (const auto& [content, id, lstrip, rstrip] : added) tokens.push_back({content, id, lstrip, rstrip});
  return tokens;
}

// What the core does not do exactly, and the twin can.
void know(const char* unknown) {
  if (unknown) throw nb::value_error((std::string("not exactly: ") + unknown).c_str());
}

Vocabulary read_vocabulary(nb::bytes raw, const Maybe<Array<uint32_t, 1>>& order) {
  Vocabulary vocabulary;
  const Bytes bytes{reinterpret_cast<const uint8_t*>(raw.c_str()), raw.size()};
  check(Vocabulary::read(vocabulary, bytes, order ? order->data() : nullptr, order ? order->size() : 0));
  return vocabulary;
}

void take_added(Vocabulary& vocabulary, const std::vector<AddedToken>& added) {
  know(vocabulary.take(added) ? nullptr : "added tokens with other ids than `tokenizers` gives them");
}

std::unique_ptr<Tokenizer> wordpiece(nb::bytes raw, Maybe<Array<uint32_t, 1>> order, const Added& added,
                                     const std::string& unknown, uint32_t most_chars, bool cased) {
  WordPieceOptions options;
  options.added = added_tokens(added);
  options.most_chars = most_chars, options.cased = cased;
  Vocabulary vocabulary = read_vocabulary(raw, order);
  take_added(vocabulary, options.added);
  const size_t id = vocabulary.find(unknown);
  check(vocabulary.repeats ? "a piece twice" : nullptr);
  know(id == Vocabulary::kNone ? "an unknown token that is no piece" : nullptr);
  options.unknown = static_cast<uint32_t>(id);
  auto tokenizer = std::make_unique<Tokenizer>();
  tokenizer->size = vocabulary.size();
  know(WordPiece::build(tokenizer->wordpiece, vocabulary.blob.data(), vocabulary.offsets.data(), tokenizer->size,
                        options));
  return tokenizer;
}

using Sides = std::pair<bool, bool>;

std::unique_ptr<Tokenizer> unigram(nb::bytes raw, Maybe<Array<uint32_t, 1>> order, const Added& added,
                                   Array<double, 1> scores, int64_t unknown, bool byte_fallback, Sides trim,
                                   bool replace_quotes, bool fold, nb::bytes charsmap, Sides strip,
                                   bool collapse_spaces, bool split_whitespace, int prepend) {
  UnigramOptions options;
  options.added = added_tokens(added);
  options.unknown = unknown, options.byte_fallback = byte_fallback;
  options.trim_left = trim.first, options.trim_right = trim.second;
  options.replace_quotes = replace_quotes, options.fold = fold;
  options.charsmap = {reinterpret_cast<const uint8_t*>(charsmap.c_str()), charsmap.size()};
  options.strip_left = strip.first, options.strip_right = strip.second;
  options.collapse_spaces = collapse_spaces, options.split_whitespace = split_whitespace;
  options.prepend = static_cast<UnigramOptions::Prepend>(prepend);
  Vocabulary vocabulary = read_vocabulary(raw, order);
  const size_t pieces = vocabulary.size();
  check(scores.size() == pieces, "not as many scores as pieces");
  take_added(vocabulary, options.added);
  auto tokenizer = std::make_unique<Tokenizer>();
  tokenizer->is_unigram = true;
  tokenizer->size = vocabulary.size();
  know(Unigram::build(tokenizer->unigram, vocabulary.blob.data(), vocabulary.offsets.data(), scores.data(), pieces,
                      options));
  return tokenizer;
}

// Takes ids, and grows as it must.
struct Ids {
  std::vector<int32_t> ids;
  void push(uint32_t id) { ids.push_back(static_cast<int32_t>(id)); }
  void push_if(uint32_t id, bool taken) {
    if (taken) push(id);
  }
  bool full() const { return false; }
  void drain() {}
};

template <class T>
nb::ndarray<nb::numpy, T, nb::ndim<1>> as_array(std::vector<T>&& values) {
  auto* kept = new std::vector<T>(std::move(values));
  nb::capsule owner(kept, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
  return nb::ndarray<nb::numpy, T, nb::ndim<1>>(kept->data(), {kept->size()}, owner);
}

using Tokens = std::pair<nb::ndarray<nb::numpy, int32_t, nb::ndim<1>>, nb::ndarray<nb::numpy, int64_t, nb::ndim<1>>>;

// Ids of texts end to end, and where each begins and the last one ends.
Tokens token_ids(const Tokenizer& tokenizer, nb::list texts) {
  constexpr size_t kTaken = 8192;
  Ids sink;
  std::vector<int64_t> offsets{0};
  std::vector<uint8_t> room;
  TokenizerScratch scratch = tokenizer.scratch();
  Held held;
  for (size_t start = 0, n = texts.size(); start < n; start += kTaken) {
    const size_t stop = std::min(start + kTaken, n);
    bool fine = held.take(texts.ptr(), start, stop) == stop - start;
    if (fine) {
      nb::gil_scoped_release unlocked;
      for (size_t i = 0; fine && i < held.size(); ++i) {
        held.prefetch(i + kAhead);
        const Bytes text = utf8_of(held[i], room);
        if (!(fine = text.data != nullptr)) break;
        tokenizer.encode(text, scratch, sink);
        offsets.push_back(static_cast<int64_t>(sink.ids.size()));
      }
    }
    check(fine, "a text that is no str, or holds half a character");
  }
  return {as_array(std::move(sink.ids)), as_array(std::move(offsets))};
}

// --- models ---

class Model {
 public:
  Model(nb::object tokenizer, const std::string& isa) : tokenizer_object_(tokenizer), kernels_(kernels_of(isa)) {
    tokenizer_ = nb::cast<Tokenizer*>(tokenizer);
  }

  void rows_int8(Array<int8_t, 2> rows) { rows_.take(table_, rows); }
  void rows_float(Array<float, 2> rows) { rows_.take(table_, rows); }

  void tokens(size_t n, Maybe<Array<uint32_t, 1>> places, Maybe<Array<float, 1>> factors, float common,
              Maybe<Array<bool, 1>> coded, Maybe<Array<float, 1>> scales, const std::vector<uint32_t>& drop,
              bool sublinear) {
    check(n >= tokenizer_->size, "a table with fewer rows than the tokenizer has tokens");
    rows_.tokens(table_, n, places, factors, common, coded, scales, drop, sublinear);
  }

  const char* isa() const { return kernels_->name; }

  // limit: below 0 for none. The rest as of Encoder.
  int64_t encode(nb::object texts, nb::object out, size_t dim, int64_t limit, bool stop_at_cut, bool normalize,
                 int dtype, size_t threads) {
    check(dim > 0 && dim <= table_.dim() && table_.tokens() > 0, "a dim that the table lacks");
    const auto make = [&] { return Scratch{tokenizer_->scratch(), {}}; };
    const auto work = [&](size_t n, const auto& text, const EncodeOptions& options, Scratch& scratch, uint8_t* rows) {
      return nestling::encode(*tokenizer_, table_, *kernels_, options, n, text, scratch, rows);
    };
    return encoder_.encode(texts, out, options_of(dim, limit, stop_at_cut, normalize, dtype), threads, make, work);
  }

 private:
  nb::object tokenizer_object_;
  const Tokenizer* tokenizer_;
  const Kernels* kernels_;
  Table table_;
  Rows rows_;
  Encoder<Scratch> encoder_{{256, 200000, 8, 16384}};
};

// Shapes and ranges have been checked in rows.py. rows: (n, dim), to be filled.
void unfold(Array<uint8_t, 2> codes, Array<int8_t, 2> words, Array<uint32_t, 1> widths,
            nb::ndarray<int8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu> rows) {
  check(rows.shape(0) == codes.shape(0) && rows.shape(1) == words.shape(1), "rows of another shape");
  unfold_product(codes.data(), words.data(), widths.data(), widths.size(), codes.shape(0), words.shape(1), rows.data());
}

std::vector<std::string> kernel_names() {
  std::vector<std::string> names;
  for (const Kernels* each = kernels(); each->name; ++each) names.emplace_back(each->name);
  return names;
}

}  // namespace

NB_MODULE(_core, m) {
  m.doc() = "The C++ core (core/): texts to ids and to vectors. model/native.py is its only user.";
  m.def("unfold_product", &unfold);
  m.def("kernels", &kernel_names, "Instruction sets that this machine has a kernel for, the widest first.");
  nb::class_<Tokenizer>(m, "Tokenizer")
      .def_static("wordpiece", &wordpiece, nb::arg("vocabulary"), nb::arg("order").none(), nb::arg("added"),
                  nb::arg("unknown"), nb::arg("most_chars"), nb::arg("cased"))
      .def_static("unigram", &unigram, nb::arg("vocabulary"), nb::arg("order").none(), nb::arg("added"),
                  nb::arg("scores"), nb::arg("unknown"), nb::arg("byte_fallback"), nb::arg("trim"),
                  nb::arg("replace_quotes"), nb::arg("fold"), nb::arg("charsmap"), nb::arg("strip"),
                  nb::arg("collapse_spaces"), nb::arg("split_whitespace"), nb::arg("prepend"))
      .def_ro("size", &Tokenizer::size)
      .def("encode", &token_ids);
  nb::class_<Model>(m, "Model")
      .def(nb::init<nb::object, std::string>(), nb::arg("tokenizer"), nb::arg("isa") = "")
      .def_prop_ro("isa", &Model::isa)
      .def("rows_int8", &Model::rows_int8)
      .def("rows_float", &Model::rows_float)
      .def("tokens", &Model::tokens, nb::arg("n"), nb::arg("places").none(), nb::arg("factors").none(),
           nb::arg("common"), nb::arg("coded").none(), nb::arg("scales").none(), nb::arg("drop"),
           nb::arg("sublinear"))
      .def("encode", &Model::encode);
  nb::class_<Reader>(m, "Reader")
      .def(nb::init<nb::object, std::string>(), nb::arg("tokenizer").none(), nb::arg("isa") = "")
      .def_prop_ro("isa", &Reader::isa)
      .def("rows_int8", &Reader::rows_int8)
      .def("rows_float", &Reader::rows_float)
      .def("tokens", &Reader::tokens, nb::arg("n"), nb::arg("places").none(), nb::arg("factors").none(),
           nb::arg("common"), nb::arg("coded").none(), nb::arg("scales").none(), nb::arg("drop"),
           nb::arg("sublinear"))
      .def("shape", &Reader::shape)
      .def("matrix", &Reader::matrix, nb::arg("layer"), nb::arg("name"), nb::arg("values"), nb::arg("scales"),
           nb::arg("bias").none())
      .def("norm", &Reader::norm, nb::arg("layer"), nb::arg("name"), nb::arg("weights").none(), nb::arg("bias").none(),
           nb::arg("epsilon"))
      .def("weigh", &Reader::weigh)
      .def("rotary", &Reader::rotary)
      .def("places", &Reader::places)
      .def("ready", &Reader::ready)
      .def("sums", &Reader::sums)
      .def("encode", &Reader::encode);
}
