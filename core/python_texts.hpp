// The texts of a Python list: references to them, and their UTF-8, read without the interpreter's lock.
#pragma once

#include <Python.h>

#include <algorithm>
#include <vector>

#include "codepoints.hpp"

namespace nestling {

template <class Char>
Bytes transcode(const Char* chars, size_t size, std::vector<uint8_t>& room) {
  if (room.size() < size * 4 + 16) room.resize(size * 4 + 16);
  uint8_t* out = room.data();
  for (size_t i = 0; i < size; ++i) {
    const uint32_t code = chars[i];
    if (sizeof(Char) > 1 && code - 0xD800u < 0x800u) return {};  // half a character
    out = put_code_point(out, code);
  }
  return {room.data(), static_cast<size_t>(out - room.data())};
}

// The UTF-8 of a str, in place if it is ASCII; null data if it holds half a character.
inline Bytes utf8_of(PyObject* text, std::vector<uint8_t>& room) {
  const size_t size = static_cast<size_t>(PyUnicode_GET_LENGTH(text));
  if (PyUnicode_IS_COMPACT_ASCII(text)) return {PyUnicode_1BYTE_DATA(text), size};
  constexpr size_t kKept = 1 << 20;
  if (room.size() > kKept && size * 4 < kKept) room = std::vector<uint8_t>();
  switch (PyUnicode_KIND(text)) {
    case PyUnicode_1BYTE_KIND:
      return transcode(PyUnicode_1BYTE_DATA(text), size, room);
    case PyUnicode_2BYTE_KIND:
      return transcode(PyUnicode_2BYTE_DATA(text), size, room);
    default:
      return transcode(PyUnicode_4BYTE_DATA(text), size, room);
  }
}

inline constexpr size_t kAhead = 8;  // texts, of which one is at hand and others are on their way

// References to some of a list's texts, so that they live while the list may change.
class Held {
 public:
  ~Held() { release(); }

  // Takes texts start to stop of a list. Returns how many of them are there and are str.
  size_t take(PyObject* list, size_t start, size_t stop) {
    release();
    stop = std::min(stop, static_cast<size_t>(PyList_GET_SIZE(list)));
    for (size_t i = start; i < stop; ++i) {
      if (i + kAhead < stop) NEST_PREFETCH(PyList_GET_ITEM(list, i + kAhead));
      if (!take(PyList_GET_ITEM(list, i))) break;
    }
    return texts_.size();
  }

  // Texts lie all over the memory: ask for one that will be needed soon.
  NEST_INLINE void prefetch(size_t i) const {
    if (i >= texts_.size()) return;
    const char* text = reinterpret_cast<const char*>(texts_[i]);
    for (size_t b = 0; b < 256; b += 64) NEST_PREFETCH(text + b);
  }

  bool take(PyObject* text) {
    if (!PyUnicode_Check(text)) return false;
#if PY_VERSION_HEX < 0x030C0000
    if (PyUnicode_READY(text) != 0) return PyErr_Clear(), false;
#endif
    Py_INCREF(text);
    texts_.push_back(text);
    return true;
  }

  PyObject* operator[](size_t i) const { return texts_[i]; }
  size_t size() const { return texts_.size(); }

 private:
  void release() {
    for (PyObject* text : texts_) Py_DECREF(text);
    texts_.clear();
  }

  std::vector<PyObject*> texts_;
};

}  // namespace nestling
