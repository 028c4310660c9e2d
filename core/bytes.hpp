// What every part of the core shares: views of bytes, tokens that a tokenizer adds to its vocabulary.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#define NEST_LIKELY(x) __builtin_expect(!!(x), 1)
#define NEST_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define NEST_INLINE inline __attribute__((always_inline))
#define NEST_NOINLINE __attribute__((noinline))
#define NEST_PREFETCH(p) __builtin_prefetch(p)
#if defined(__wasm__)
#define NEST_SMALL __attribute__((minsize))  // runs once, and goes over the wire
#else
#define NEST_SMALL
#endif

namespace nestling {

// Four bytes as one number, wherever they lie.
static NEST_INLINE int32_t four_bytes(const void* p) {
  int32_t four;
  memcpy(&four, p, 4);
  return four;
}

struct Bytes {
  const uint8_t* data = nullptr;
  size_t size = 0;
};

// A token that is matched in the raw text, before it is normalised. lstrip, rstrip: takes the white space beside it.
struct AddedToken {
  std::string content;
  uint32_t id = 0;
  bool lstrip = false;
  bool rstrip = false;
};

}  // namespace nestling
