// Texts between two pages that cannot be touched: a read of one byte before or behind them ends the program. Texts of 0
// to 64 bytes, with every kind of start and end, must have the ids that they have in a larger buffer.
#include <sys/mman.h>
#include <unistd.h>

#include "common.hpp"

using namespace nestling;
using namespace nestling::fuzz;

namespace {

// One page to write to, and one without rights on either side.
class GuardedPage {
 public:
  GuardedPage() : size_(static_cast<size_t>(sysconf(_SC_PAGESIZE))) {
    void* all = mmap(nullptr, 3 * size_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(all != MAP_FAILED);
    page_ = static_cast<uint8_t*>(all) + size_;
    REQUIRE(mprotect(page_, size_, PROT_READ | PROT_WRITE) == 0);
  }
  Bytes at_end(const std::string& text) const { return put(page_ + size_ - text.size(), text); }
  Bytes at_start(const std::string& text) const { return put(page_, text); }

 private:
  static Bytes put(uint8_t* place, const std::string& text) {
    memcpy(place, text.data(), text.size());
    return {place, text.size()};
  }
  size_t size_;
  uint8_t* page_;
};

const std::vector<std::string> kEdges = {"",
                                         "a",
                                         " ",
                                         "\t",
                                         "\r\n",
                                         "\r",
                                         ".",
                                         "[",
                                         "[MASK]",
                                         "[MASK",
                                         "[MASKED]",
                                         "<a b>",
                                         "<mask>",
                                         "<mas",
                                         "'",
                                         "``",
                                         "q",
                                         std::string(1, '\0'),
                                         "\x7F",
                                         "\xC3\xA9",
                                         "e\xCC\x81",
                                         "\xCC\x81",
                                         "\xC2\x85",
                                         "\xC2\xA0",
                                         "\xE6\x9D\xB1",
                                         "\xEA\xB0\x80",
                                         "\xE2\x96\x81",
                                         "\xE2\x80\x8B",
                                         "\xE3\x80\x80",
                                         "\xD8\x80",
                                         "\xF0\x9F\x98\x80",
                                         "\xF0\xAF\xA0\x80",
                                         "\xF3\xA0\x84\x80",
                                         "the",
                                         "internationalisation"};
const std::vector<std::string> kFillings = {"a",           "ab cd ", " ", "\xC3\xA9",         "x\xE6\x9D\xB1",
                                            "the world, ", "q",      ".", "a\xF0\x9F\x98\x80"};

// `size` bytes between the edges where there is room, of whole characters.
std::string filled(const std::string& start, const std::string& filling, const std::string& end, size_t size) {
  std::string text = start;
  while (text.size() + filling.size() + end.size() <= size) text += filling;
  while (text.size() + end.size() < size) text += 'z';
  return text + end;
}

}  // namespace

int main() {
  const GuardedPage page;
  size_t texts = 0;
  for (const Tokenizer& tokenizer : all_tokenizers()) {
    TokenizerScratch scratch = tokenizer.scratch();
    for (const std::string& start : kEdges)
      for (const std::string& end : kEdges)
        for (const std::string& filling : kFillings)
          for (size_t size = 0; size <= 64; ++size, ++texts) {
            const std::string text = filled(start, filling, end, size);
            const std::string roomy = std::string(64, '#') + text + std::string(64, '#');
            const Bytes within{reinterpret_cast<const uint8_t*>(roomy.data()) + 64, text.size()};
            const std::vector<uint32_t> expected = encode_ids(tokenizer, within, scratch);
            REQUIRE(encode_ids(tokenizer, page.at_end(text), scratch) == expected);
            REQUIRE(encode_ids(tokenizer, page.at_start(text), scratch) == expected);
          }
  }
  printf("%zu texts at the edges of a page\n", texts);
}
