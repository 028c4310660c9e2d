// Any bytes as the charsmap of a SentencePiece model: it is refused, or it normalizes any text, with a Unigram behind
// it.
#include "common.hpp"

using namespace nestling;
using namespace nestling::fuzz;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  const int kind = input.byte() % 4;
  const uint32_t units = input.byte();
  std::string raw;
  for (int shift = 0; shift < 32; shift += 8) raw += static_cast<char>(units * 4 >> shift);
  const Bytes trie = input.take(units * 4);
  raw.append(reinterpret_cast<const char*>(trie.data), trie.size);
  raw += text_of(input.take(input.byte()));
  const Exact charsmap(raw);
  Charsmap map;
  if (Charsmap::build(map, charsmap.bytes())) return 0;
  const Tokenizer tokenizer = unigram(unigram_options(kind), charsmap.bytes());
  const Exact text(text_of(input.rest()));
  TokenizerScratch scratch = tokenizer.scratch();
  REQUIRE(encode_ids(tokenizer, text.bytes(), scratch) == encode_ids(tokenizer, text.bytes(), scratch));
  return 0;
}
