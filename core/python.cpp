// The core in Python: reads str objects where they lie, works without the interpreter's lock, writes into arrays.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <atomic>
#include <exception>
#include <mutex>
#include <thread>

#include "python_texts.hpp"
#include "static.hpp"
#include "transformer.hpp"

namespace nb = nanobind;
using namespace nestling;

namespace {

template <class T, size_t N>
using Array = nb::ndarray<const T, nb::ndim<N>, nb::c_contig, nb::device::cpu>;
template <class T>
using Maybe = std::optional<T>;
using Added = std::vector<std::tuple<std::string, uint32_t, bool, bool>>;

void check(const char* wrong) {
  if (wrong) throw nb::value_error(wrong);
}

void check(bool right, const char* wrong) {
  if (!right) throw nb::value_error(wrong);
}

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

// Of the widest instruction set, or of the one that is named.
const Kernels* kernels_of(const std::string& isa) {
  const Kernels* found = kernels();
  while (!isa.empty() && found->name && isa != found->name) ++found;
  check(found->name != nullptr, "no such instruction set on this machine");
  return found;
}

// The arrays of a table, which are kept as long as it.
class Rows {
 public:
  template <class T>
  void take(Table& table, Array<T, 2> rows) {
    kept_ = nb::cast(rows);
    rows_ = rows.shape(0);
    table = Table();
    table.set_rows(rows.data(), rows.shape(1));
  }

  void tokens(Table& table, size_t n, const Maybe<Array<uint32_t, 1>>& places, const Maybe<Array<float, 1>>& factors,
              float common, const Maybe<Array<bool, 1>>& coded, const Maybe<Array<float, 1>>& scales, bool sublinear) {
    check(places || n <= rows_, "fewer rows than tokens");
    check((!places || places->size() == n) && (!factors || factors->size() == n), "places or factors of another size");
    check(coded.has_value() == scales.has_value(), "codes without scales");
    check(!coded || (coded->size() == n && scales->size() == table.dim()), "codes or scales of another size");
    for (size_t t = 0; places && t < n; ++t) check(places->data()[t] < rows_, "a place that is no row");
    table.set_tokens(n, places ? places->data() : nullptr, factors ? factors->data() : nullptr, common,
                     coded ? reinterpret_cast<const uint8_t*>(coded->data()) : nullptr,
                     scales ? scales->data() : nullptr, sublinear);
  }

 private:
  nb::object kept_;
  size_t rows_ = 0;
};

constexpr size_t kMostThreads = 256;

// Runs `worker` in up to `threads` threads, this one among them. What it throws anywhere, memory being at its end, is
// thrown here once all are done.
template <class Worker>
void in_threads(size_t threads, const Worker& worker) {
  std::exception_ptr thrown;
  std::mutex mutex;
  const auto guarded = [&] {
    try {
      worker();
    } catch (...) {
      std::lock_guard<std::mutex> lock(mutex);
      thrown = std::current_exception();
    }
  };
  std::vector<std::thread> others;
  try {
    while (others.size() + 1 < std::min(threads, kMostThreads)) others.emplace_back(guarded);
  } catch (const std::exception&) {  // the machine has no more; those that there are do the work
  }
  guarded();
  for (std::thread& other : others) other.join();
  if (thrown) std::rethrow_exception(thrown);
}

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
    rows_.tokens(table_, n, places, factors, common, coded, scales, sublinear);
    for (const uint32_t id : drop) {
      check(id < n, "a dropped token that the table lacks");
      table_.drop(id);
    }
  }

  const char* isa() const { return kernels_->name; }

  // texts: a list of str, or one str. out: rows of what the options say, contiguous. Returns how many texts were cut;
  // or, if a text is no str, holds half a character, or is cut and must not be, -1 minus its index.
  int64_t encode(nb::object texts, nb::object out, size_t dim, int64_t limit, bool stop_at_cut, bool normalize,
                 int dtype, size_t threads) {
    EncodeOptions options;
    options.dim = dim;
    options.limit = limit < 0 ? SIZE_MAX : static_cast<size_t>(limit);
    options.stop_at_cut = stop_at_cut, options.normalize = normalize, options.dtype = static_cast<Dtype>(dtype);
    const bool single = PyUnicode_Check(texts.ptr());
    check(single || PyList_Check(texts.ptr()), "texts that are no list");
    check(dim > 0 && dim <= table_.dim() && table_.tokens() > 0, "a dim that the table lacks");
    threads = std::min<size_t>(std::max<size_t>(threads, 1), kMostThreads);
    const size_t n = single ? 1 : static_cast<size_t>(PyList_GET_SIZE(texts.ptr())),
                 width = row_bytes(options.dtype, dim);
    Py_buffer view;
    if (PyObject_GetBuffer(out.ptr(), &view, PyBUF_WRITABLE | PyBUF_C_CONTIGUOUS) != 0) throw nb::python_error();
    struct Release {
      Py_buffer& view;
      ~Release() { PyBuffer_Release(&view); }
    } release{view};
    check(static_cast<size_t>(view.len) == n * width, "an output of another size");

    if (n < 2048) threads = worth(texts.ptr(), single, n) ? threads : 1;
    constexpr size_t kTaken = 16384;  // texts whose references are held at once, for each thread
    Held held;
    int64_t cut = 0;
    for (size_t start = 0; start < n; start += kTaken * threads) {
      const size_t stop = std::min(start + kTaken * threads, n);
      const size_t taken = single ? held.take(texts.ptr()) : held.take(texts.ptr(), start, stop);
      const EncodeResult result = run(held, options, threads, static_cast<uint8_t*>(view.buf) + start * width, width);
      if (result.bad != SIZE_MAX) return -1 - static_cast<int64_t>(start + result.bad);
      if (taken < stop - start) return -1 - static_cast<int64_t>(start + taken);
      cut += static_cast<int64_t>(result.cut);
    }
    return cut;
  }

 private:
  struct Room {
    Scratch scratch;
    std::vector<uint8_t> utf8;  // of the text at hand
  };

  // Whether there is so much text that another thread is worth its start.
  static bool worth(PyObject* texts, bool single, size_t n) {
    constexpr Py_ssize_t kWorth = 200000;
    Py_ssize_t characters = 0;
    for (size_t i = 0; !single && i < n && characters < kWorth; ++i) {
      PyObject* text = PyList_GET_ITEM(texts, i);
      if (PyUnicode_Check(text)) characters += PyUnicode_GET_LENGTH(text);
    }
    return characters >= kWorth;
  }

  EncodeResult run(const Held& held, const EncodeOptions& options, size_t threads, uint8_t* out, size_t width) {
    const size_t n = held.size();
    if (n <= 8) return work(held, 0, n, options, out);  // over before another thread could have the lock
    nb::gil_scoped_release unlocked;
    const size_t unit = std::min<size_t>(256, std::max<size_t>(1, n / (threads * 8)));
    std::atomic<size_t> next{0}, cut{0}, bad{SIZE_MAX};
    const auto worker = [&] {
      for (size_t start; (start = next.fetch_add(unit)) < n && start < bad.load();) {
        const EncodeResult result = work(held, start, std::min(start + unit, n), options, out + start * width);
        cut += result.cut;
        if (result.bad == SIZE_MAX) continue;
        size_t before = bad.load();
        while (start + result.bad < before && !bad.compare_exchange_weak(before, start + result.bad)) {
        }
      }
    };
    in_threads(std::min(threads, (n + unit - 1) / unit), worker);
    return {cut.load(), bad.load()};
  }

  EncodeResult work(const Held& held, size_t start, size_t stop, const EncodeOptions& options, uint8_t* out) {
    std::unique_ptr<Room> room = borrow();
    const auto text = [&](size_t i) {
      held.prefetch(start + i + kAhead);
      return utf8_of(held[start + i], room->utf8);
    };
    const EncodeResult result =
        nestling::encode(*tokenizer_, table_, *kernels_, options, stop - start, text, room->scratch, out);
    std::lock_guard<std::mutex> lock(mutex_);
    rooms_.push_back(std::move(room));
    return result;
  }

  std::unique_ptr<Room> borrow() {
    std::lock_guard<std::mutex> lock(mutex_);
    if (rooms_.empty()) {
      auto room = std::make_unique<Room>();
      room->scratch.tokens = tokenizer_->scratch();
      return room;
    }
    std::unique_ptr<Room> room = std::move(rooms_.back());
    rooms_.pop_back();
    return room;
  }

  nb::object tokenizer_object_;
  const Tokenizer* tokenizer_;
  const Kernels* kernels_;
  Table table_;
  Rows rows_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Room>> rooms_;  // as many as threads were ever busy at once
};

// A transformer behind its tokenizer. Shapes have been checked in model/blocks.py.
class Reader {
 public:
  explicit Reader(const std::string& isa) : transformer_(kernels_of(isa)) {}

  void rows_int8(Array<int8_t, 2> rows) { rows_.take(transformer_.table, rows); }
  void rows_float(Array<float, 2> rows) { rows_.take(transformer_.table, rows); }

  void tokens(size_t n, Maybe<Array<uint32_t, 1>> places, Maybe<Array<float, 1>> factors, float common,
              Maybe<Array<bool, 1>> coded, Maybe<Array<float, 1>> scales) {
    rows_.tokens(transformer_.table, n, places, factors, common, coded, scales, false);
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
  void ready() { check(transformer_.ready()); }

  // The sums of pieces of texts, whose tokens lie end to end: (total,), (total,), (n + 1,) -> (n, columns of a vector).
  nb::ndarray<nb::numpy, float, nb::ndim<2>> sums(Array<uint32_t, 1> ids, Array<float, 1> weights,
                                                  Array<int64_t, 1> starts, size_t threads) {
    ready();
    const Blocks& b = transformer_.blocks();
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
      std::vector<size_t> spans{0};
      while (spans.back() < n) spans.push_back(spans.back() + Transformer::at_once(at + spans.back(), n - spans.back()));
      std::atomic<size_t> next{0};
      in_threads(std::min(std::max<size_t>(threads, 1), spans.size() - 1), [&] {
        std::unique_ptr<Transformer::Room> room = borrow();
        for (size_t span; (span = next.fetch_add(1)) + 1 < spans.size();)
          transformer_.read(ids.data(), weights.data(), at + spans[span], spans[span + 1] - spans[span], *room,
                            made->data() + spans[span] * b.vector);
        std::lock_guard<std::mutex> lock(mutex_);
        rooms_.push_back(std::move(room));
      });
    }
    return nb::ndarray<nb::numpy, float, nb::ndim<2>>(made->data(), {n, b.vector}, owner);
  }

 private:
  template <class T>
  const float* keep(T array) {
    kept_.push_back(nb::cast(array));
    return array.data();
  }

  std::unique_ptr<Transformer::Room> borrow() {
    std::lock_guard<std::mutex> lock(mutex_);
    if (rooms_.empty()) return std::make_unique<Transformer::Room>();
    std::unique_ptr<Transformer::Room> room = std::move(rooms_.back());
    rooms_.pop_back();
    return room;
  }

  Transformer transformer_;
  Rows rows_;
  std::vector<nb::object> kept_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Transformer::Room>> rooms_;  // as many as threads were ever busy at once
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
      .def(nb::init<std::string>(), nb::arg("isa") = "")
      .def_prop_ro("isa", &Reader::isa)
      .def("rows_int8", &Reader::rows_int8)
      .def("rows_float", &Reader::rows_float)
      .def("tokens", &Reader::tokens, nb::arg("n"), nb::arg("places").none(), nb::arg("factors").none(),
           nb::arg("common"), nb::arg("coded").none(), nb::arg("scales").none())
      .def("shape", &Reader::shape)
      .def("matrix", &Reader::matrix, nb::arg("layer"), nb::arg("name"), nb::arg("values"), nb::arg("scales"),
           nb::arg("bias").none())
      .def("norm", &Reader::norm, nb::arg("layer"), nb::arg("name"), nb::arg("weights").none(), nb::arg("bias").none(),
           nb::arg("epsilon"))
      .def("weigh", &Reader::weigh)
      .def("rotary", &Reader::rotary)
      .def("places", &Reader::places)
      .def("ready", &Reader::ready)
      .def("sums", &Reader::sums);
}
