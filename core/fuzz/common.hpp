// What the harnesses share: small tokenizers, text made of any bytes, buffers of exactly the right size.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "../static.hpp"

namespace nestling::fuzz {

#define REQUIRE(condition)                                                          \
  do {                                                                              \
    if (!(condition)) {                                                             \
      fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition); \
      abort();                                                                      \
    }                                                                               \
  } while (false)

// A copy on the heap with nothing behind it, so that a read past its end is seen.
class Exact {
 public:
  Exact(const uint8_t* data, size_t size) : bytes_(new uint8_t[size]), size_(size) {
    if (size > 0) memcpy(bytes_.get(), data, size);
  }
  explicit Exact(const std::string& text) : Exact(reinterpret_cast<const uint8_t*>(text.data()), text.size()) {}
  Bytes bytes() const { return {bytes_.get(), size_}; }

 private:
  std::unique_ptr<uint8_t[]> bytes_;
  size_t size_;
};

// Takes the fuzzer's bytes apart from the front.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  uint8_t byte() { return size_ == 0 ? 0 : (--size_, *data_++); }
  uint32_t number() { return byte() | uint32_t{byte()} << 8; }
  Bytes take(size_t size) {
    size = size < size_ ? size : size_;
    const Bytes taken{data_, size};
    data_ += size, size_ -= size;
    return taken;
  }
  Bytes rest() { return take(size_); }

 private:
  const uint8_t* data_;
  size_t size_;
};

// What a stray byte from 0x80 on stands for: characters that some rule is about.
inline constexpr uint32_t kTelling[] = {
    0x00,    0x7F,    0x85,    0xA0,    0xAD,    0xB4,    0xC5,    0xDF,    0xE9,    0x130,   0x131,   0x149,
    0x17F,   0x1C4,   0x1E9E,  0x300,   0x301,   0x308,   0x327,   0x345,   0x3A3,   0x3C2,   0x390,   0x587,
    0x5B8,   0x600,   0x61C,   0x6DD,   0x915,   0x93C,   0x93E,   0x94D,   0x958,   0xAC00,  0xAC01,  0xD7A3,
    0x1100,  0x1161,  0x11A8,  0xE33,   0xEB3,   0xF73,   0x1031,  0x1680,  0x180E,  0x1D100, 0x1D165, 0x2000,
    0x200B,  0x200C,  0x200D,  0x200E,  0x2028,  0x202F,  0x20DD,  0x2126,  0x212B,  0x2581,  0x2764,  0x3000,
    0x302E,  0x3042,  0x3099,  0x30AB,  0x3300,  0x4E00,  0x6771,  0xD7CB,  0xE000,  0xF900,  0xFAD0,  0xFB01,
    0xFB1D,  0xFDFA,  0xFE0F,  0xFEFF,  0xFF21,  0xFF76,  0xFF9E,  0xFFFC,  0xFFFD,  0xFFFF,  0x10000, 0x110BD,
    0x16FF0, 0x1D15E, 0x1F1E6, 0x1F3FD, 0x1F469, 0x20000, 0x2F800, 0xE0001, 0xE0100, 0xF0000, 0x10FFFF};
inline constexpr size_t kTellings = sizeof kTelling / sizeof *kTelling;

inline void append_code_point(std::string& out, uint32_t code) {
  uint8_t bytes[4];
  out.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(put_code_point(bytes, code) - bytes));
}

// Valid UTF-8 of any bytes: what is valid stays, any other byte becomes a telling character.
inline std::string text_of(Bytes raw) {
  std::string text;
  for (size_t i = 0; i < raw.size;) {
    size_t size = 1;
    while (size < 4 && !Vocabulary::valid_utf8({raw.data + i, size}) && size < raw.size - i) ++size;
    if (Vocabulary::valid_utf8({raw.data + i, size})) {
      text.append(reinterpret_cast<const char*>(raw.data + i), size);
      i += size;
    } else {
      append_code_point(text, kTelling[raw.data[i++] % kTellings]);
    }
  }
  return text;
}

// Takes ids, and grows as it must.
struct Ids {
  std::vector<uint32_t> ids;
  void push(uint32_t id) { ids.push_back(id); }
  void push_if(uint32_t id, bool taken) {
    if (taken) push(id);
  }
  bool full() const { return false; }
  void drain() {}
};

inline std::vector<uint32_t> encode_ids(const Tokenizer& tokenizer, Bytes text, TokenizerScratch& scratch) {
  Ids sink;
  tokenizer.encode(text, scratch, sink);
  for (const uint32_t id : sink.ids) REQUIRE(id < tokenizer.size);
  return sink.ids;
}

inline std::vector<uint32_t> encode_ids(const Tokenizer& tokenizer, Bytes text) {
  TokenizerScratch scratch = tokenizer.scratch();
  return encode_ids(tokenizer, text, scratch);
}

// Pieces end to end, as the builders take them.
struct PieceList {
  std::string blob;
  std::vector<uint32_t> offsets{0};
  void add(const std::string& piece) {
    blob += piece;
    offsets.push_back(static_cast<uint32_t>(blob.size()));
  }
  size_t size() const { return offsets.size() - 1; }
  const uint8_t* data() const { return reinterpret_cast<const uint8_t*>(blob.data()); }
};

inline const std::vector<std::string> kWords = {"the",
                                                "of",
                                                "un",
                                                "able",
                                                "token",
                                                "world",
                                                "internationalisation",
                                                "caf\xC3\xA9",
                                                "cafe",
                                                "\xE6\x9D\xB1",
                                                "\xE4\xBA\xAC",
                                                "\xEA\xB0\x80",
                                                "\xE1\x84\x80\xE1\x85\xA1",
                                                "\xD0\xBF\xD1\x80",
                                                "abcdefghijklmnop",
                                                "abcdefghijklmnopq",
                                                "0123456789abcdef",
                                                "seventeenletters1",
                                                "ing",
                                                "s",
                                                "...",
                                                "fi",
                                                "\xF0\x9F\x98\x80"};

inline std::vector<AddedToken> added_tokens(std::vector<std::string> contents) {
  std::vector<AddedToken> added;
  for (uint32_t id = 0; id < contents.size(); ++id) added.push_back({std::move(contents[id]), id, false, false});
  return added;
}

// BERT's way over some 250 pieces: characters, words, and both as continuations.
inline Tokenizer wordpiece(bool cased, uint32_t most_chars) {
  PieceList pieces;
  for (const char* special : {"[PAD]", "[UNK]", "[MASK]", "[MASKED]", "<a b>"}) pieces.add(special);
  WordPieceOptions options;
  options.added = added_tokens({"[PAD]", "[UNK]", "[MASK]", "[MASKED]", "<a b>"});
  options.unknown = 1, options.cased = cased, options.most_chars = most_chars;
  for (const char* prefix : {"", "##"}) {
    for (char c = '!'; c < 0x7F; ++c)
      if (c != 'q') pieces.add(prefix + std::string(1, c));
    for (const std::string& word : kWords) pieces.add(prefix + word);
  }
  Tokenizer tokenizer;
  tokenizer.size = pieces.size();
  const char* wrong =
      WordPiece::build(tokenizer.wordpiece, pieces.data(), pieces.offsets.data(), pieces.size(), options);
  if (wrong) fprintf(stderr, "%s\n", wrong);
  REQUIRE(wrong == nullptr);
  return tokenizer;
}

// SentencePiece's way over as many pieces, by any options.
inline Tokenizer unigram(UnigramOptions options, Bytes charsmap = {}) {
  PieceList pieces;
  for (const char* special : {"<s>", "<unk>", "<mask>", "<masked>", "<a b>"}) pieces.add(special);
  const std::string mark = "\xE2\x96\x81";
  for (const std::string& prefix : {std::string(), mark}) {
    if (!prefix.empty()) pieces.add(prefix);
    for (char c = '!'; c < 0x7F; ++c)
      if (c != 'q') pieces.add(prefix + std::string(1, c));
    for (const std::string& word : kWords) pieces.add(prefix + word);
  }
  for (int byte = 0; byte < 256; ++byte) {
    char name[8];
    snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned>(byte));
    pieces.add(name);
  }
  std::vector<double> scores;
  for (size_t i = 0; i < pieces.size(); ++i) scores.push_back(-1.0 - static_cast<double>(i % 7));
  options.unknown = 1;
  options.charsmap = charsmap;
  options.added = added_tokens({"<s>", "<unk>", "<mask>", "<masked>", "<a b>"});
  options.added[2].lstrip = true;
  options.added[3].rstrip = true;
  Tokenizer tokenizer;
  tokenizer.is_unigram = true;
  tokenizer.size = pieces.size();
  const char* wrong =
      Unigram::build(tokenizer.unigram, pieces.data(), pieces.offsets.data(), scores.data(), pieces.size(), options);
  if (wrong) fprintf(stderr, "%s\n", wrong);
  REQUIRE(wrong == nullptr);
  return tokenizer;
}

// Like XLM-R's, a byte-fallback model's, ALBERT's and mT5's, without a charsmap.
inline UnigramOptions unigram_options(int kind) {
  UnigramOptions options;
  options.collapse_spaces = kind != 1;
  options.byte_fallback = kind == 1;
  options.prepend = kind == 1 ? UnigramOptions::First : kind == 3 ? UnigramOptions::Never : UnigramOptions::Always;
  options.replace_quotes = options.fold = options.split_whitespace = kind == 2;
  options.trim_left = options.trim_right = kind == 2;
  options.strip_left = options.strip_right = kind == 3;
  return options;
}

inline std::vector<Tokenizer> all_tokenizers() {
  std::vector<Tokenizer> all;
  all.push_back(wordpiece(false, 100));
  all.push_back(wordpiece(true, 100));
  all.push_back(wordpiece(false, 1000));
  for (int kind = 0; kind < 4; ++kind) all.push_back(unigram(unigram_options(kind)));
  return all;
}

}  // namespace nestling::fuzz
