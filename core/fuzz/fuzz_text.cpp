// Any text, by every kind of tokenizer: ids, and vectors in every form. ASan sees a read past the text's end; what is
// compared here is that neither where a text lies, nor what came before, nor the width of registers changes anything.
#include "common.hpp"

using namespace nestling;
using namespace nestling::fuzz;

namespace {

constexpr size_t kDim = 37;  // columns for every width of register, and some left over

// Tables over the tokens of one tokenizer: int8 without factors and with, float32, and some tokens coded; and the same,
// sublinear.
struct Tables {
  std::vector<int8_t> bytes;
  std::vector<float> floats, factors, scales;
  std::vector<uint32_t> places;
  std::vector<uint8_t> coded;
  Table tables[8];

  explicit Tables(size_t tokens) {
    uint32_t state = 1;
    const auto next = [&] { return state = state * 1664525 + 1013904223, state >> 16; };
    const auto fraction = [&] { return static_cast<float>(next()) / 65536 - 0.3f; };
    for (size_t i = 0; i < tokens * kDim; ++i)
      bytes.push_back(static_cast<int8_t>(next())), floats.push_back(fraction());
    for (size_t i = 0; i < kDim; ++i) scales.push_back(fraction());
    for (size_t i = 0; i < tokens; ++i) {
      factors.push_back(fraction());
      places.push_back(next() % static_cast<uint32_t>(tokens));
      coded.push_back(next() % 3 > 0);
    }
    for (const bool sublinear : {false, true}) {
      Table* const four = tables + 4 * sublinear;
      four[0].set_rows(bytes.data(), kDim);
      four[0].set_tokens(tokens, nullptr, nullptr, 0.37f, nullptr, nullptr, sublinear);
      four[1].set_rows(bytes.data(), kDim);
      four[1].set_tokens(tokens, places.data(), factors.data(), 1, nullptr, nullptr, sublinear);
      four[2].set_rows(floats.data(), kDim);
      four[2].set_tokens(tokens, nullptr, nullptr, 1, nullptr, nullptr, sublinear);
      four[3].set_rows(bytes.data(), kDim);
      four[3].set_tokens(tokens, places.data(), factors.data(), 1, coded.data(), scales.data(), sublinear);
    }
    for (Table& table : tables) table.drop(1);
  }
};

struct Subject {
  Tokenizer tokenizer;
  Tables tables;
  TokenizerScratch warm;  // knows the words of all texts before
  Scratch embedding;

  explicit Subject(Tokenizer&& from) : tokenizer(std::move(from)), tables(tokenizer.size), warm(tokenizer.scratch()) {
    embedding.tokens = tokenizer.scratch();
  }
};

std::vector<std::unique_ptr<Subject>>& subjects() {
  static auto* const all = [] {
    auto* made = new std::vector<std::unique_ptr<Subject>>;
    for (Tokenizer& tokenizer : all_tokenizers()) made->push_back(std::make_unique<Subject>(std::move(tokenizer)));
    return made;
  }();
  return *all;
}

// The ids are the same with a new scratch, and, as BERT's words end at a space, in any place of a longer text.
std::vector<uint32_t> check_ids(Subject& subject, const std::string& text) {
  const Exact exact(text);
  const std::vector<uint32_t> ids = encode_ids(subject.tokenizer, exact.bytes(), subject.warm);
  REQUIRE(ids == encode_ids(subject.tokenizer, exact.bytes()));
  if (subject.tokenizer.is_unigram) return ids;
  const Exact before_spaces(text + std::string(40, ' '));
  REQUIRE(ids == encode_ids(subject.tokenizer, before_spaces.bytes(), subject.warm));
  const Exact twice(text + " " + text);
  std::vector<uint32_t> doubled = ids;
  doubled.insert(doubled.end(), ids.begin(), ids.end());
  REQUIRE(doubled == encode_ids(subject.tokenizer, twice.bytes(), subject.warm));
  return ids;
}

// The sums of blocks of kMostRows tokens, one token and one column after the other.
std::vector<float> pooled(const Table& table, std::vector<uint32_t> ids, size_t dim, size_t limit, size_t& kept) {
  std::vector<float> total(dim), sums(dim), spare(dim);
  std::vector<uint8_t> met(table.tokens());
  if (ids.size() > limit) ids.resize(limit);
  const Kernels* plain = kernels();
  while (plain[1].name) ++plain;
  kept = 0;
  for (size_t start = 0; start < ids.size(); start += kMostRows) {
    const size_t n = std::min(kMostRows, ids.size() - start);
    kept += table.add(*plain, ids.data() + start, n, dim, sums.data(), spare.data(), met.data());
    for (size_t d = 0; d < dim; ++d) total[d] += sums[d];
  }
  return total;
}

// What `encode` writes is what its tokens add up to, with every kernel, whether one text or several.
void check_vectors(Subject& subject, const Exact& text, const std::vector<uint32_t>& ids, EncodeOptions options,
                   int which) {
  const Table& table = subject.tables.tables[which];
  size_t kept = 0;
  std::vector<float> sums = pooled(table, ids, options.dim, options.limit, kept);
  const size_t width = row_bytes(options.dtype, options.dim);
  const Exact expected(std::string(width, '\0'));
  put_vector(sums.data(), options.dim, kept, options.normalize, options.dtype,
             const_cast<uint8_t*>(expected.bytes().data));
  for (const Kernels* each = kernels(); each->name; ++each) {
    const Exact rows(std::string(3 * width, '\0'));
    const auto text_at = [&](size_t i) { return i == 1 ? Bytes{text.bytes().data, 0} : text.bytes(); };
    const EncodeResult result = encode(subject.tokenizer, table, *each, options, 3, text_at, subject.embedding,
                                       const_cast<uint8_t*>(rows.bytes().data));
    REQUIRE(result.bad == SIZE_MAX);
    REQUIRE(result.cut == (ids.size() > options.limit ? 2u : 0u));
    REQUIRE(memcmp(rows.bytes().data, expected.bytes().data, width) == 0);
    REQUIRE(memcmp(rows.bytes().data + 2 * width, expected.bytes().data, width) == 0);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  Subject& subject = *subjects()[input.byte() % subjects().size()];
  EncodeOptions options;
  options.dtype = static_cast<Dtype>(input.byte() % 4);
  options.normalize = options.dtype >= Dtype::Int8 || input.byte() % 2;
  options.dim = 1 + input.byte() % kDim;
  options.limit = input.byte() % 2 ? SIZE_MAX : input.number() % 1200;
  const int which = input.byte() % 8;
  const size_t times = 1 + input.byte() % 16 * (input.byte() % 16);
  const std::string once = text_of(input.rest());
  std::string text;
  for (size_t i = 0; i < times; ++i) text += once;  // texts of many blocks, and words of many characters
  check_vectors(subject, Exact(text), check_ids(subject, text), options, which);
  return 0;
}
