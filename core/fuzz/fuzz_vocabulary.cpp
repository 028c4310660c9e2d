// Any bytes as a vocabulary: it is refused, or it tokenizes any text. Half of them are front-coded here, so that they
// get as far as the builders.
#include "common.hpp"

using namespace nestling;
using namespace nestling::fuzz;

namespace {

void put_leb128(std::string& out, size_t number) {
  for (; number > 127; number >>= 7) out += static_cast<char>(number | 128);
  out += static_cast<char>(number);
}

// Pieces, one a line, in the form of a file; each shares up to `most` bytes with the one before.
std::string front_coded(const std::string& lines, size_t most) {
  std::vector<std::string> pieces;
  for (size_t start = 0, stop; start <= lines.size(); start = stop + 1) {
    stop = std::min(lines.find('\n', start), lines.size());
    pieces.push_back(lines.substr(start, stop - start));
  }
  std::string shared, sizes, rests, before;
  for (const std::string& piece : pieces) {
    size_t same = 0;
    while (same < std::min({piece.size(), before.size(), most}) && piece[same] == before[same]) ++same;
    put_leb128(shared, same);
    put_leb128(sizes, piece.size() - same);
    rests += piece.substr(same);
    before = piece;
  }
  std::string raw;
  put_leb128(raw, pieces.size());
  return raw + shared + sizes + rests;
}

std::vector<AddedToken> some_added(Input& input) {
  std::vector<AddedToken> added;
  for (size_t left = input.byte() % 4; left > 0; --left) {
    const uint32_t id = input.byte();
    added.push_back({text_of(input.take(input.byte() % 12)), id, input.byte() % 4 == 0, input.byte() % 4 == 0});
  }
  return added;
}

void try_wordpiece(const Vocabulary& vocabulary, const std::vector<AddedToken>& added, Input& input,
                   const Exact& text) {
  WordPieceOptions options;
  options.added = added;
  options.unknown = input.byte(), options.most_chars = input.number() % 1100, options.cased = input.byte() % 2;
  Tokenizer tokenizer;
  tokenizer.size = vocabulary.size();
  if (!WordPiece::build(tokenizer.wordpiece, vocabulary.blob.data(), vocabulary.offsets.data(), tokenizer.size,
                        options))
    encode_ids(tokenizer, text.bytes());
}

void try_unigram(const Vocabulary& vocabulary, size_t pieces, const std::vector<AddedToken>& added, Input& input,
                 const Exact& text) {
  UnigramOptions options = unigram_options(input.byte() % 4);
  options.added = added;
  options.unknown = input.byte();
  std::vector<double> scores;
  for (size_t i = 0; i < pieces; ++i) scores.push_back(static_cast<int8_t>(input.byte()));
  Tokenizer tokenizer;
  tokenizer.is_unigram = true;
  tokenizer.size = vocabulary.size();
  if (!Unigram::build(tokenizer.unigram, vocabulary.blob.data(), vocabulary.offsets.data(), scores.data(), pieces,
                      options))
    encode_ids(tokenizer, text.bytes());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  const uint8_t way = input.byte();
  std::vector<AddedToken> added = some_added(input);
  std::vector<uint32_t> order;
  for (size_t left = way & 4 ? input.byte() : 0; left > 0; --left) order.push_back(input.byte());
  const size_t most = input.byte();
  const Bytes bytes = input.take(input.number() % 2048);
  const Exact raw(way & 1
                      ? std::string(reinterpret_cast<const char*>(bytes.data), bytes.size)
                      : front_coded(way & 8 ? text_of(bytes) : std::string(bytes.data, bytes.data + bytes.size), most));
  Vocabulary vocabulary;
  if (Vocabulary::read(vocabulary, raw.bytes(), way & 4 ? order.data() : nullptr, order.size())) return 0;
  REQUIRE(vocabulary.offsets.back() == vocabulary.blob.size());
  for (size_t i = 0; way & 16 && i < added.size(); ++i) {  // the ids that are right, mostly
    const size_t id = vocabulary.find(added[i].content);
    added[i].id = static_cast<uint32_t>(id == Vocabulary::kNone ? vocabulary.size() + i : id);
  }
  const size_t pieces = vocabulary.size();
  if (!vocabulary.take(added)) return 0;
  Input options = input;
  options.take(64);
  const Exact text(text_of(options.rest()));
  if (way & 2)
    try_unigram(vocabulary, pieces, added, input, text);
  else
    try_wordpiece(vocabulary, added, input, text);
  return 0;
}
