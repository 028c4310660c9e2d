#!/bin/sh
# Tests the core on 64-bit ARM, emulated:  core/arm.sh
#
# Builds the extension with a cross compiler, and runs tests/core (but for limits and memory, which are the emulator's
# own, and every code point, which takes it long) and the golden vectors with it, in a Python of that architecture, by
# qemu. Needs Debian and root: installs qemu and the compiler, lets the machine know ARM's packages, and puts Python and
# wheels into build/arm. PYTHON: with the packages of `pip install -e .[test]`.
set -eu
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-$PWD/.venv/bin/python}
OUT=$PWD/build/arm
ROOT=$OUT/root

main() {
  command -v qemu-aarch64-static >/dev/null && command -v aarch64-linux-gnu-g++ >/dev/null ||
    { apt-get update -q && apt-get install -q --yes --no-install-recommends qemu-user-static g++-aarch64-linux-gnu; }
  mkdir -p "$OUT/debs" "$OUT/objects"
  [ -e "$OUT/ready" ] || { get_python; get_wheels; touch "$OUT/ready"; }
  build_extension
  arm -m pytest -v -p no:cacheprovider tests/model/test_golden.py tests/core --ignore tests/core/test_limits.py \
    -k "not every_code_point and not hold_memory"
}

arm() {
  qemu-aarch64-static -L "$ROOT" -E PYTHONPATH="$OUT/site:$PWD" "$(ls "$ROOT"/usr/bin/python3.??)" "$@"
}

get_python() {
  dpkg --add-architecture arm64
  apt-get update -q
  needed=$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
    --no-enhances libpython3-dev:arm64 libpython3-stdlib:arm64 python3-minimal:arm64 libstdc++6:arm64 |
    grep '^[a-z].*:arm64$' | sort -u)
  (cd "$OUT/debs" && apt-get download $needed)
  for package in "$OUT"/debs/*.deb; do dpkg -x "$package" "$ROOT"; done
}

get_wheels() {
  version=$(basename "$(ls "$ROOT"/usr/bin/python3.??)" | tr -d a-z)
  "$PYTHON" -m pip install -q --target "$OUT/site" --platform manylinux2014_aarch64 --platform manylinux_2_28_aarch64 \
    --only-binary=:all: --python-version "$version" --no-deps --constraint constraints.txt numpy tokenizers safetensors \
    click tqdm pytest hypothesis iniconfig packaging pluggy pygments sortedcontainers attrs pyarrow
}

build_extension() {
  nanobind=$("$PYTHON" -c "import nanobind; print(nanobind.__path__[0])")
  name=$(arm -c "import sysconfig; print('_core' + sysconfig.get_config_var('EXT_SUFFIX'))")
  include=$(ls -d "$ROOT"/usr/include/python3.??)
  for source in core/python.cpp core/kernels.cpp core/kernels_dot.cpp core/kernels_plain.cpp "$nanobind/src/nb_combined.cpp"; do
    [ "$source" = core/kernels_dot.cpp ] && more=-march=armv8.2-a+dotprod || more=-DNEST_DOT=1
    aarch64-linux-gnu-g++ $more -std=c++17 -O3 -fPIC -fvisibility=hidden -fno-strict-aliasing -ffp-contract=off -DNDEBUG \
      -I"$nanobind/include" -I"$nanobind/ext/robin_map/include" -I"$include" -I"$ROOT/usr/include" \
      -c "$source" -o "$OUT/objects/$(basename "$source").o"
  done
  rm -rf "$OUT/site/nestling"
  cp -r src/nestling "$OUT/site/"
  rm -f "$OUT"/site/nestling/_core*.so
  aarch64-linux-gnu-g++ -shared "$OUT"/objects/*.o -lpthread -o "$OUT/site/nestling/$name"
}

main
