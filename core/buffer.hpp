// Bytes that are written one behind the other, text after text, without new memory.
#pragma once

#include <vector>

#include "bytes.hpp"

namespace nestling {

// Bytes that grow, and are used again for the next text. kFront of them may be written before the first.
class Buffer {
 public:
  static constexpr size_t kFront = 3;

  void clear() { size_ = kFront; }
  uint8_t* begin() { return bytes_.data() + kFront; }
  uint8_t* end() { return bytes_.data() + size_; }
  bool empty() const { return size_ == kFront; }

  NEST_INLINE void push(uint8_t byte) { *room(1) = byte, ++size_; }
  NEST_INLINE void append(const uint8_t* p, size_t size) {
    if (size > 0) memcpy(room(size), p, size), size_ += size;
  }
  // At least so many bytes to be written to, then taken by `take`.
  NEST_INLINE uint8_t* room(size_t size) {
    if (NEST_UNLIKELY(bytes_.size() - size_ < size)) bytes_.resize(size_ + size + bytes_.size());
    return bytes_.data() + size_;
  }
  void take(const uint8_t* end) { size_ = static_cast<size_t>(end - bytes_.data()); }

  void release_if_over(size_t limit) {
    if (bytes_.size() > limit) bytes_ = std::vector<uint8_t>(kFirst), clear();
  }

 private:
  static constexpr size_t kFirst = 1024;
  std::vector<uint8_t> bytes_ = std::vector<uint8_t>(kFirst);
  size_t size_ = kFront;
};

}  // namespace nestling
