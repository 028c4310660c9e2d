// Where the time goes, without Python: nanoseconds of CPU time a text, as JSON. Run by benchmarks/core_stages.py.
//
//   stages VOCABULARY ORDER TEXTS UNKNOWN      files of core/tokenizer.hpp's form; texts: one a line
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>

#include "../static.hpp"

using namespace nestling;

namespace {

constexpr int kRounds = 9;
constexpr size_t kDim = 256;

double now() {
  timespec time;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_nsec);
}

std::vector<uint8_t> slurp(const char* path) {
  std::vector<uint8_t> bytes;
  FILE* file = fopen(path, "rb");
  if (!file) return bytes;
  uint8_t block[65536];
  for (size_t n; (n = fread(block, 1, sizeof block, file)) > 0;) bytes.insert(bytes.end(), block, block + n);
  fclose(file);
  return bytes;
}

// Takes ids and does nothing with them.
struct Ids {
  uint32_t ids[kMostRows + 1100];
  size_t held = 0, met = 0;
  void push(uint32_t id) { ids[held++] = id; }
  void push_if(uint32_t id, bool taken) { ids[held] = id, held += taken; }
  bool full() const { return held >= kMostRows; }
  void drain() { met += held, held = 0; }
};

template <class Work>
double best(size_t n, const Work& work) {
  double least = 1e300;
  for (int round = 0; round < kRounds; ++round) {
    const double start = now();
    work();
    least = std::min(least, (now() - start) / static_cast<double>(n));
  }
  return least;
}

void fail(const char* why) {
  fprintf(stderr, "stages: %s\n", why);
  exit(1);
}

}  // namespace

int main(int, char** arguments) {
  const std::vector<uint8_t> raw = slurp(arguments[1]), order = slurp(arguments[2]), lines = slurp(arguments[3]);
  Vocabulary vocabulary;
  if (const char* wrong = Vocabulary::read(vocabulary, {raw.data(), raw.size()},
                                           reinterpret_cast<const uint32_t*>(order.data()), order.size() / 4))
    fail(wrong);
  WordPieceOptions options;
  options.unknown = static_cast<uint32_t>(atoi(arguments[4]));
  Tokenizer tokenizer;
  const size_t size = tokenizer.size = vocabulary.size();
  if (const char* wrong =
          WordPiece::build(tokenizer.wordpiece, vocabulary.blob.data(), vocabulary.offsets.data(), size, options))
    fail(wrong);

  std::vector<Bytes> texts;
  for (const uint8_t *p = lines.data(), *end = p + lines.size(); p < end;) {
    const auto* stop = static_cast<const uint8_t*>(memchr(p, '\n', static_cast<size_t>(end - p)));
    texts.push_back({p, static_cast<size_t>(stop - p)});
    p = stop + 1;
  }
  const size_t n = texts.size();
  std::vector<int8_t> int8(size * kDim);
  for (size_t i = 0; i < int8.size(); ++i) int8[i] = static_cast<int8_t>(i * 2654435761u >> 24);
  std::vector<float> floats(int8.begin(), int8.end()), scales(size), out(n * kDim);
  for (size_t t = 0; t < size; ++t) scales[t] = 1.0f + static_cast<float>(t % 100) / 100.0f;
  Table tables[3];
  const char* names[] = {"int8, one scale", "int8, a scale a row", "float32"};
  tables[0].set_rows(int8.data(), kDim), tables[1].set_rows(int8.data(), kDim), tables[2].set_rows(floats.data(), kDim);
  for (int k = 0; k < 3; ++k)
    tables[k].set_tokens(size, nullptr, k == 1 ? scales.data() : nullptr, 1, nullptr, nullptr, false);

  Scratch scratch;
  scratch.tokens = tokenizer.scratch();
  Ids ids;
  for (const Bytes& text : texts) tokenizer.encode(text, scratch.tokens, ids), ids.drain();
  volatile uint64_t kept = 0;  // so that reading is not left out
  const double scan = best(n, [&] {
    uint64_t sum = 0;
    for (size_t i = 0; i + 8 <= lines.size(); i += 8) {
      uint64_t eight;
      memcpy(&eight, &lines[i], 8);
      sum += eight;
    }
    kept = sum;
  });
  printf("{\"texts\": %zu, \"bytes\": %.1f, \"tokens\": %.2f, \"read\": %.1f", n,
         static_cast<double>(lines.size()) / static_cast<double>(n) - 1,
         static_cast<double>(ids.met) / static_cast<double>(n), scan);

  struct {
    const char* name;
    size_t distinct;
  } sets[] = {{"one text", 1}, {"1,000 texts", 1000}, {"all texts", n}};
  size_t one = 0;  // a text of the usual length
  for (size_t i = 0; i < n; ++i)
    if (texts[i].size == lines.size() / n) one = i;
  const auto pick = [&](size_t i, size_t distinct) { return distinct == 1 ? texts[one] : texts[i % distinct]; };
  printf(", \"ids\": {");
  for (const auto& set : sets)
    printf("%s\"%s\": %.1f", &set == sets ? "" : ", ", set.name, best(n, [&] {
             for (size_t i = 0; i < n; ++i) tokenizer.encode(pick(i, set.distinct), scratch.tokens, ids), ids.drain();
           }));
  printf("}, \"vectors\": {");
  for (const Kernels* each = kernels(); each->name; ++each)
    for (int k = 0; k < 3; ++k) {
      printf("%s\"%s, %s\": {", each == kernels() && k == 0 ? "" : ", ", names[k], each->name);
      for (const auto& set : sets) {
        EncodeOptions how;
        how.dim = kDim;
        const auto text = [&](size_t i) { return pick(i, set.distinct); };
        printf("%s\"%s\": %.1f", &set == sets ? "" : ", ", set.name,
               best(n, [&] { encode(tokenizer, tables[k], *each, how, n, text, scratch, out.data()); }));
      }
      printf("}");
    }
  printf("}}\n");
}
