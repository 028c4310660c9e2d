// From a list of str to rows of an array, in threads.
#pragma once

#include "output.hpp"
#include "python_arrays.hpp"
#include "python_texts.hpp"

namespace {

EncodeOptions options_of(size_t dim, int64_t limit, bool stop_at_cut, bool normalize, int dtype) {
  EncodeOptions options;
  options.dim = dim;
  options.limit = limit < 0 ? SIZE_MAX : static_cast<size_t>(limit);
  options.stop_at_cut = stop_at_cut, options.normalize = normalize, options.dtype = static_cast<Dtype>(dtype);
  return options;
}

// Embeds texts with rooms that threads borrow; a room is what one needs, and `utf8`, for the text at hand.
template <class Scratch>
class Encoder {
 public:
  // How much a text is to do. unit: texts that a thread takes at once, at most. characters: for which another thread is
  // worth its start. few: texts that are over before another thread could have the interpreter's lock. held: texts for
  // each thread whose references are held at once; behind them Python may stop the work.
  struct Effort {
    size_t unit, characters, few, held;
  };

  explicit Encoder(Effort effort) : effort_(effort) {}

  // texts: a list of str, or one str. out: rows of what the options say, contiguous. make(): a new room.
  // work(n, text, options, scratch, out): as `encode` in static.hpp. Returns how many texts were cut; or, if a text is
  // no str, holds half a character, is cut and must not be, or has no finite vector, -1 minus its index.
  template <class Make, class Work>
  int64_t encode(nb::object texts, nb::object out, const EncodeOptions& options, size_t threads, const Make& make,
                 const Work& work) {
    const bool single = PyUnicode_Check(texts.ptr());
    check(single || PyList_Check(texts.ptr()), "texts that are no list");
    threads = std::min<size_t>(std::max<size_t>(threads, 1), kMostThreads);
    const size_t n = single ? 1 : static_cast<size_t>(PyList_GET_SIZE(texts.ptr())),
                 width = row_bytes(options.dtype, options.dim);
    Py_buffer view;
    if (PyObject_GetBuffer(out.ptr(), &view, PyBUF_WRITABLE | PyBUF_C_CONTIGUOUS) != 0) throw nb::python_error();
    struct Release {
      Py_buffer& view;
      ~Release() { PyBuffer_Release(&view); }
    } release{view};
    check(static_cast<size_t>(view.len) == n * width, "an output of another size");

    if (n < 2048) threads = worth(texts.ptr(), single, n) ? threads : 1;
    Held held;
    int64_t cut = 0;
    for (size_t start = 0; start < n; start += effort_.held * threads) {
      const size_t stop = std::min(start + effort_.held * threads, n);
      const size_t taken = single ? held.take(texts.ptr()) : held.take(texts.ptr(), start, stop);
      uint8_t* const rows = static_cast<uint8_t*>(view.buf) + start * width;
      const auto some = [&](size_t first, size_t last) {
        std::unique_ptr<Room> room = spare_.borrow([&] { return std::make_unique<Room>(Room{make(), {}}); });
        const auto text = [&](size_t i) {
          held.prefetch(first + i + kAhead);
          return utf8_of(held[first + i], room->utf8);
        };
        const EncodeResult result = work(last - first, text, options, room->scratch, rows + first * width);
        spare_.give_back(std::move(room));
        return result;
      };
      const EncodeResult result = run(held.size(), threads, some);
      if (result.bad != SIZE_MAX) return -1 - static_cast<int64_t>(start + result.bad);
      if (taken < stop - start) return -1 - static_cast<int64_t>(start + taken);
      cut += static_cast<int64_t>(result.cut);
      if (stop < n && PyErr_CheckSignals() != 0) throw nb::python_error();
    }
    return cut;
  }

 private:
  struct Room {
    Scratch scratch;
    std::vector<uint8_t> utf8;  // of the text at hand
  };

  // Whether there is so much text that another thread is worth its start.
  bool worth(PyObject* texts, bool single, size_t n) const {
    size_t characters = 0;
    for (size_t i = 0; !single && i < n && characters < effort_.characters; ++i) {
      PyObject* text = PyList_GET_ITEM(texts, i);
      if (PyUnicode_Check(text)) characters += static_cast<size_t>(PyUnicode_GET_LENGTH(text));
    }
    return characters >= effort_.characters;
  }

  template <class Some>
  EncodeResult run(size_t n, size_t threads, const Some& some) const {
    if (n <= effort_.few) return some(0, n);
    nb::gil_scoped_release unlocked;
    const size_t unit = std::min<size_t>(effort_.unit, std::max<size_t>(1, n / (threads * 8)));
    std::atomic<size_t> next{0}, cut{0}, bad{SIZE_MAX};
    in_threads(std::min(threads, (n + unit - 1) / unit), [&] {
      for (size_t start; (start = next.fetch_add(unit)) < n && start < bad.load();) {
        const EncodeResult result = some(start, std::min(start + unit, n));
        cut += result.cut;
        if (result.bad == SIZE_MAX) continue;
        size_t before = bad.load();
        while (start + result.bad < before && !bad.compare_exchange_weak(before, start + result.bad)) {
        }
      }
    });
    return {cut.load(), bad.load()};
  }

  const Effort effort_;
  Spare<Room> spare_;
};

}  // namespace
