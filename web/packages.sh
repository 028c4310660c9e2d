#!/usr/bin/env bash
# What web/ needs of the system: chromium, node and npm for tests and figures, emscripten to rebuild nestling.wasm.
# Installs what is missing, and nothing if nothing is.   web/packages.sh [chromium|emscripten]
set -euo pipefail

declare -A commands=([chromium]=chromium [emscripten]=emcc)
missing=()
for package in "${@:-chromium emscripten}"; do
  for each in $package; do command -v "${commands[$each]}" > /dev/null || missing+=("$each"); done
done
command -v npm > /dev/null || missing+=(nodejs npm)
[ ${#missing[@]} -eq 0 ] && { echo "All is there."; exit 0; }

if ! command -v apt-get > /dev/null; then
  echo "Missing: ${missing[*]}. A system with apt-get was expected. Install them by hand, and set CHROMIUM to the browser."
  exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo > /dev/null || { echo "Missing: ${missing[*]}. Root or sudo was expected. Run: apt-get install ${missing[*]}"; exit 1; }
  as_root=(sudo)
fi
"${as_root[@]}" apt-get update -q
"${as_root[@]}" apt-get install -q -y --no-install-recommends "${missing[@]}"
