#!/bin/sh
# Looks for wrong uses of memory and undefined steps in the core:  core/check.sh [SECONDS]
#
# Fuzzes each harness of core/fuzz for SECONDS (20), lays texts at the edge of a page, and runs tests/core with an
# extension that has sanitizers. Builds into build/sanitize; ends with an error at any finding. PYTHON: with the
# packages of `pip install -e .[test]`. What a fuzzer finds lies in build/sanitize/found; corpora stay between runs.
set -eu
cd "$(dirname "$0")/.."
SECONDS_EACH=${1:-20}
PYTHON=${PYTHON:-$PWD/.venv/bin/python}
OUT=$PWD/build/sanitize
HARNESSES="text vocabulary charsmap"

main() {
  need_clang
  mkdir -p "$OUT/objects" "$OUT/found"
  build_fuzzers & fuzzers=$!
  build_extension
  wait $fuzzers
  "$OUT/page_end"
  fuzz
  test_extension
  echo "core/check.sh: nothing found"
}

need_clang() {
  has_clang && return
  if [ "$(id -u)" = 0 ]; then as_root=""; elif command -v sudo >/dev/null; then as_root="sudo"; else
    echo "core/check.sh needs clang and its runtime: as root, apt-get install clang libclang-rt-dev" >&2
    exit 1
  fi
  $as_root apt-get update -q
  $as_root apt-get install -q --yes --no-install-recommends clang
  has_clang && return
  $as_root apt-get install -q --yes --no-install-recommends "libclang-rt-$("$CLANG" -dumpversion | cut -d. -f1)-dev"
  has_clang || { echo "core/check.sh: $CLANG cannot build a fuzzer" >&2; exit 1; }
}

# A clang that can build a fuzzer: its runtime is a package of its own.
has_clang() {
  CLANG=$(command -v clang++ || command -v clang++-14) || return 1
  echo 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }' |
    "$CLANG" -fsanitize=fuzzer,address,undefined -x c++ - -o /dev/null 2>/dev/null
}

compile() {
  "$CLANG" -std=c++17 -O1 -g -Wall -Wextra -ffp-contract=off "$@"
}

build_fuzzers() {
  watched="-fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all"
  wide=""
  if [ "$(uname -m)" = x86_64 ]; then
    wide="-DNEST_WIDE=1"
    compile $watched -mavx2 -c core/kernels_avx2.cpp -o "$OUT/objects/avx2.o"
    compile $watched -mavx512f -mavx512bw -c core/kernels_avx512.cpp -o "$OUT/objects/avx512.o"
    compile $watched -mavx512f -mavx512bw -mavx512vnni -c core/kernels_vnni.cpp -o "$OUT/objects/vnni.o"
  fi
  compile $watched $wide -c core/kernels.cpp -o "$OUT/objects/kernels.o"
  compile $watched -c core/kernels_plain.cpp -o "$OUT/objects/plain.o"
  compile core/fuzz/page_end.cpp core/kernels.cpp core/kernels_plain.cpp -o "$OUT/page_end"
  for name in $HARNESSES; do
    compile $watched -fsanitize=fuzzer "core/fuzz/fuzz_$name.cpp" "$OUT"/objects/*.o -o "$OUT/fuzz_$name"
  done
}

build_extension() {
  cmake -S core -B "$OUT/extension" -DCMAKE_BUILD_TYPE=Release -DNEST_SANITIZE=ON -DPython_EXECUTABLE="$PYTHON" \
    -Dnanobind_DIR="$("$PYTHON" -m nanobind --cmake_dir)" >"$OUT/cmake.log" || { cat "$OUT/cmake.log"; exit 1; }
  cmake --build "$OUT/extension" --parallel 2 >"$OUT/cmake.log" 2>&1 || { cat "$OUT/cmake.log"; exit 1; }
}

# All at once; a harness that finds something says so, and leaves the input.
fuzz() {
  running=""
  for name in $HARNESSES; do
    mkdir -p "$OUT/corpus/$name"
    "$OUT/fuzz_$name" -max_total_time="$SECONDS_EACH" -max_len=1000 -timeout=20 -rss_limit_mb=4096 \
      -artifact_prefix="$OUT/found/$name-" "$OUT/corpus/$name" >"$OUT/$name.log" 2>&1 &
    running="$running $name:$!"
  done
  for each in $running; do
    wait "${each#*:}" || { tail -n 60 "$OUT/${each%:*}.log"; exit 1; }
    tail -n 1 "$OUT/${each%:*}.log" | sed "s/^/fuzz_${each%:*}: /"
  done
}

# Leaks are not looked for: the interpreter itself never gives everything back. Freed memory is kept back only a little,
# as a test measures what the process holds. Every code point is left out: it is about ids, and slow with all of
# `tokenizers` watched. Capturing is Python's only, so that what a sanitizer says is seen.
test_extension() {
  extension=$(ls "$OUT"/extension/_core.*.so)
  LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libstdc++.so)" \
    ASAN_OPTIONS=detect_leaks=0:quarantine_size_mb=4:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 \
    "$PYTHON" core/run_with.py "$extension" pytest tests/core -x --capture=sys -p no:cacheprovider \
    --deselect tests/core/test_exact.py::test_ids_of_every_code_point
}

main
