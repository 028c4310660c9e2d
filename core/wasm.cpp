// The core in WebAssembly, one model an instance, so that a model's memory goes when its instance does.
//
// web/nestling.js is the only user. It checks shapes and ranges before it passes pointers, and asks for memory with
// `allocate`. Functions that can refuse return what is wrong, or null.
#include <cstdlib>

#include "static.hpp"
#ifdef NEST_TRANSFORMER
#include "contextual.hpp"
#endif

using namespace nestling;

#define EXPORT(name) extern "C" __attribute__((export_name(#name)))

namespace {

std::vector<AddedToken> added;
Tokenizer tokenizer;
#ifdef NEST_TRANSFORMER
Transformer transformer{kernels()};
std::unique_ptr<ContextualScratch> contextual;  // once there are blocks
Table& table = transformer.table;
#else
Table table;
#endif
Scratch scratch;

// A text's UTF-8 in a run of texts with a byte between each two. JavaScript knows its length in UTF-16 units, which is
// its length in bytes if all is ASCII.
class Texts {
 public:
  Texts(const uint8_t* bytes, const uint32_t* units, bool ascii) : next_(bytes), units_(units), ascii_(ascii) {}

  Bytes next() {
    const uint8_t* const start = next_;
    const uint8_t* const end = ascii_ ? start + *units_ : skip(start, *units_);
    ++units_;
    next_ = end + 1;
    return {start, static_cast<size_t>(end - start)};
  }

 private:
  // A byte is a unit if it begins a character, two if it begins one of four bytes.
  static const uint8_t* skip(const uint8_t* p, uint32_t units) {
    for (; units > 16; p += 16) {
      const v128_t x = wasm_v128_load(p);
      const v128_t begins = wasm_i8x16_gt(x, wasm_i8x16_splat(static_cast<int8_t>(0xBF)));
      const v128_t four = wasm_u8x16_ge(x, wasm_u8x16_splat(0xF0));
      units -= static_cast<uint32_t>(__builtin_popcount(wasm_i8x16_bitmask(begins)));
      units -= static_cast<uint32_t>(__builtin_popcount(wasm_i8x16_bitmask(four)));
    }
    for (;; units -= *p++ < 0xF0 ? 1 : 2) {
      while ((*p & 0xC0) == 0x80) ++p;
      if (units == 0) return p;
    }
  }

  const uint8_t* next_;
  const uint32_t* units_;
  bool ascii_;
};

const char* kOtherIds = "added tokens with other ids than Hugging Face tokenizers gives them";

const char* ready(size_t size) {
  tokenizer.size = size;
  scratch.tokens = tokenizer.scratch();
  return nullptr;
}

}  // namespace

EXPORT(allocate) void* allocate(size_t size) { return malloc(size); }
EXPORT(release) void release(void* p) { free(p); }

EXPORT(add_token) void add_token(const char* content, size_t size, uint32_t id, bool lstrip, bool rstrip) {
  added.push_back({std::string(content, size), id, lstrip, rstrip});
}

EXPORT(wordpiece)
const char* wordpiece(const uint8_t* raw, size_t size, const uint32_t* order, size_t ordered, const char* unknown,
                      size_t unknown_size, uint32_t most_chars, bool cased) {
  Vocabulary vocabulary;
  if (const char* wrong = Vocabulary::read(vocabulary, {raw, size}, order, ordered)) return wrong;
  if (!vocabulary.take(added)) return kOtherIds;
  const size_t id = vocabulary.find({unknown, unknown_size});
  if (id == Vocabulary::kNone) return "an unknown token that is no piece";
  WordPieceOptions options;
  options.added = added;
  options.unknown = static_cast<uint32_t>(id), options.most_chars = most_chars, options.cased = cased;
  const char* wrong = WordPiece::build(tokenizer.wordpiece, vocabulary.blob.data(), vocabulary.offsets.data(),
                                       vocabulary.size(), options);
  return wrong ? wrong : ready(vocabulary.size());
}

#ifndef NEST_WORDPIECE_ONLY
EXPORT(unigram)
const char* unigram(const uint8_t* raw, size_t size, const uint32_t* order, size_t ordered, const double* scores,
                    size_t scored, int32_t unknown, bool byte_fallback, bool trim_left, bool trim_right,
                    bool replace_quotes, bool fold, const uint8_t* charsmap, size_t charsmap_size, bool strip_left,
                    bool strip_right, bool collapse_spaces, bool split_whitespace, int32_t prepend) {
  Vocabulary vocabulary;
  if (const char* wrong = Vocabulary::read(vocabulary, {raw, size}, order, ordered)) return wrong;
  const size_t pieces = vocabulary.size();
  if (scored != pieces) return "not as many scores as pieces";
  if (!vocabulary.take(added)) return kOtherIds;
  UnigramOptions options;
  options.added = added;
  options.unknown = unknown, options.byte_fallback = byte_fallback;
  options.trim_left = trim_left, options.trim_right = trim_right;
  options.replace_quotes = replace_quotes, options.fold = fold;
  options.charsmap = {charsmap, charsmap_size};
  options.strip_left = strip_left, options.strip_right = strip_right;
  options.collapse_spaces = collapse_spaces, options.split_whitespace = split_whitespace;
  options.prepend = static_cast<UnigramOptions::Prepend>(prepend);
  tokenizer.is_unigram = true;
  const char* wrong =
      Unigram::build(tokenizer.unigram, vocabulary.blob.data(), vocabulary.offsets.data(), scores, pieces, options);
  return wrong ? wrong : ready(vocabulary.size());
}
#endif

EXPORT(tokens_known) size_t tokens_known() { return tokenizer.size; }

EXPORT(table_int8) void table_int8(const int8_t* rows, size_t dim) { table.set_rows(rows, dim); }
EXPORT(table_float) void table_float(const float* rows, size_t dim) { table.set_rows(rows, dim); }

EXPORT(table_tokens)
void table_tokens(size_t n, const uint32_t* places, const float* factors, float common, const uint8_t* coded,
                  const float* scales, bool sublinear) {
  table.set_tokens(n, places, factors, common, coded, scales, sublinear);
}

EXPORT(table_drop) void table_drop(uint32_t token) { table.drop(token); }

// Embeds n texts into rows of `out`. task: a transformer's token before each text, or -1. cut: how many had more tokens
// than the limit, or -1 where a vector is not finite. Returns the first of these if it is to stop there, or n.
EXPORT(encode)
size_t encode(const uint8_t* bytes, const uint32_t* units, size_t n, bool ascii, size_t dim, size_t limit,
              bool stop_at_cut, bool normalize, size_t task, float* out, uint32_t* cut) {
  const EncodeOptions options{dim, limit, stop_at_cut, normalize, Dtype::Float32, task};
  Texts texts(bytes, units, ascii);
  const auto text = [&](size_t) { return texts.next(); };
  const EncodeResult result =
#ifdef NEST_TRANSFORMER
      contextual ? nestling::encode(tokenizer, transformer, options, n, text, scratch.tokens, *contextual, out) :
#endif
                 nestling::encode(tokenizer, table, *kernels(), options, n, text, scratch, out);
  *cut = result.finite ? static_cast<uint32_t>(result.cut) : UINT32_MAX;
  return result.bad < n ? result.bad : n;
}

// How many tokens each text has: by a pool of no columns, so that the program holds no copy of the tokenizer for it.
EXPORT(count)
void count(const uint8_t* bytes, const uint32_t* units, size_t n, bool ascii, uint32_t* counts) {
  Texts texts(bytes, units, ascii);
  Pool& pool = scratch.pools[0];
  for (size_t i = 0; i < n; ++i) {
    pool.start(table, *kernels(), 0, 0);
    tokenizer.encode(texts.next(), scratch.tokens, pool);
    pool.finish();
    counts[i] = static_cast<uint32_t>(pool.met());
  }
}

#ifdef NEST_TRANSFORMER
EXPORT(blocks_shape)
const char* blocks_shape(size_t inner, size_t first, size_t seen, size_t dim, size_t head, size_t longest,
                         size_t layers) {
  return transformer.shape(inner, first, seen, dim, head, longest, layers);
}

EXPORT(blocks_matrix)
const char* blocks_matrix(int32_t layer, const char* name, size_t size, const int8_t* values, size_t in, size_t out,
                          const float* scales, const float* bias) {
  return transformer.matrix(layer, std::string(name, size), values, in, out, scales, bias);
}

EXPORT(blocks_norm)
const char* blocks_norm(int32_t layer, const char* name, size_t size, const float* weights, const float* bias,
                        float epsilon) {
  return transformer.norm(layer, std::string(name, size), weights, bias, epsilon);
}

EXPORT(blocks_weigh) void blocks_weigh(const float* weights) { transformer.weigh(weights); }
EXPORT(blocks_rotary) void blocks_rotary(const float* cosines, const float* sines) { transformer.rotary(cosines, sines); }
EXPORT(blocks_places) void blocks_places(const float* vectors) { transformer.places(vectors); }
EXPORT(blocks_ready) const char* blocks_ready() {
  contextual.reset(new ContextualScratch{Parts(table), {}});
  return transformer.ready();
}
#endif
