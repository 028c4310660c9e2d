#!/usr/bin/env bash
# Makes web/nestling.wasm from core/; nestling-unigram.wasm, which also has Unigram; and nestling-transformer.wasm, which
# has the blocks of transformers as well. web/build.sh --check says whether those that are there are what the sources give.
# Needs emcc: web/packages.sh installs it. The same version gives the same bytes.
set -euo pipefail
cd "$(dirname "$0")"

command -v emcc > /dev/null || { echo "emcc is not there; Emscripten was expected. Run web/packages.sh."; exit 1; }
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT

# -ffp-contract=off: a fused multiply-add would round otherwise than Python's build of the same sources.
build() {  # NAME OPTIONS...
  emcc -std=c++17 -O3 -msimd128 -ffp-contract=off -fno-exceptions -fno-rtti -Wall -Wextra -Wno-unused-const-variable "${@:2}" \
    ../core/wasm.cpp ../core/kernels.cpp -o "$made/$1" \
    -sSTANDALONE_WASM --no-entry -sMALLOC=emmalloc \
    -sALLOW_MEMORY_GROWTH -sINITIAL_MEMORY=1MB -sTOTAL_STACK=256KB -sMAXIMUM_MEMORY=2GB
  if [ "$check" ]; then
    cmp "$made/$1" "$1" || { echo "$1 is not what core/ gives. Run web/build.sh."; exit 1; }
  else
    install -m 644 "$made/$1" "$1"
  fi
  echo "$1: $(wc -c < "$1") bytes, $(gzip -9 -c "$1" | wc -c) gzipped"
}

check=$([ "${1:-}" = --check ] && echo yes || true)
build nestling.wasm -DNEST_WORDPIECE_ONLY
build nestling-unigram.wasm
build nestling-transformer.wasm -DNEST_TRANSFORMER
