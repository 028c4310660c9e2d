// What the core's classes in Python share: arrays that come in, threads, and what threads need.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include <atomic>
#include <exception>
#include <mutex>
#include <thread>

#include "table.hpp"

namespace nb = nanobind;
using namespace nestling;

namespace {

template <class T, size_t N>
using Array = nb::ndarray<const T, nb::ndim<N>, nb::c_contig, nb::device::cpu>;
template <class T>
using Maybe = std::optional<T>;

void check(const char* wrong) {
  if (wrong) throw nb::value_error(wrong);
}

void check(bool right, const char* wrong) {
  if (!right) throw nb::value_error(wrong);
}

// Of the widest instruction set, or of the one that is named.
const Kernels* kernels_of(const std::string& isa) {
  const Kernels* found = kernels();
  while (!isa.empty() && found->name && isa != found->name) ++found;
  check(found->name != nullptr, "no such instruction set on this machine");
  return found;
}

// The arrays of a table, which are kept as long as it.
class Rows {
 public:
  template <class T>
  void take(Table& table, Array<T, 2> rows) {
    kept_ = nb::cast(rows);
    rows_ = rows.shape(0);
    table = Table();
    table.set_rows(rows.data(), rows.shape(1));
  }

  void tokens(Table& table, size_t n, const Maybe<Array<uint32_t, 1>>& places, const Maybe<Array<float, 1>>& factors,
              float common, const Maybe<Array<bool, 1>>& coded, const Maybe<Array<float, 1>>& scales,
              const std::vector<uint32_t>& drop, bool sublinear) {
    check(places || n <= rows_, "fewer rows than tokens");
    check((!places || places->size() == n) && (!factors || factors->size() == n), "places or factors of another size");
    check(coded.has_value() == scales.has_value(), "codes without scales");
    check(!coded || (coded->size() == n && scales->size() == table.dim()), "codes or scales of another size");
    for (size_t t = 0; places && t < n; ++t) check(places->data()[t] < rows_, "a place that is no row");
    table.set_tokens(n, places ? places->data() : nullptr, factors ? factors->data() : nullptr, common,
                     coded ? reinterpret_cast<const uint8_t*>(coded->data()) : nullptr,
                     scales ? scales->data() : nullptr, sublinear);
    for (const uint32_t id : drop) {
      check(id < n, "a dropped token that the table lacks");
      table.drop(id);
    }
  }

 private:
  nb::object kept_;
  size_t rows_ = 0;
};

constexpr size_t kMostThreads = 256;

// Runs `worker` in up to `threads` threads, this one among them. What it throws anywhere, memory being at its end, is
// thrown here once all are done.
template <class Worker>
void in_threads(size_t threads, const Worker& worker) {
  std::exception_ptr thrown;
  std::mutex mutex;
  const auto guarded = [&] {
    try {
      worker();
    } catch (...) {
      std::lock_guard<std::mutex> lock(mutex);
      thrown = std::current_exception();
    }
  };
  std::vector<std::thread> others;
  try {
    while (others.size() + 1 < std::min(threads, kMostThreads)) others.emplace_back(guarded);
  } catch (const std::exception&) {  // the machine has no more; those that there are do the work
  }
  guarded();
  for (std::thread& other : others) other.join();
  if (thrown) std::rethrow_exception(thrown);
}

// Rooms that no thread works in; as many as threads were ever busy at once.
template <class Room>
class Spare {
 public:
  template <class Make>
  std::unique_ptr<Room> borrow(const Make& make) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (!rooms_.empty()) {
        std::unique_ptr<Room> room = std::move(rooms_.back());
        rooms_.pop_back();
        return room;
      }
    }
    return make();
  }

  void give_back(std::unique_ptr<Room> room) {
    std::lock_guard<std::mutex> lock(mutex_);
    rooms_.push_back(std::move(room));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Room>> rooms_;
};

}  // namespace
