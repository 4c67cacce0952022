#!/usr/bin/env bash
# Compiles the CUDA operators for every architecture into BUILD and fails on a register spill.
# Usage: tools/build_cuda.sh PYTHON BUILD   (an interpreter that has torch and pybind11)
set -euo pipefail
python=$1 build=$2
cmake=$(dirname "$python")/cmake
[ -x "$cmake" ] || cmake=cmake
"$cmake" -S . -B "$build" -G Ninja -DFCN_EXT_CUDA=on -DPython_EXECUTABLE="$(realpath -s "$python")" \
  -Dpybind11_DIR="$("$python" -m pybind11 --cmakedir)" >"$build.configure.log" 2>&1 ||
  { cat "$build.configure.log"; exit 1; }
"$cmake" --build "$build" --target fcn_ext_cuda --clean-first -v >"$build/log" 2>&1 ||
  { grep -E "error|FAILED" "$build/log" | head -n 20; exit 1; }
kernels=$(grep -c "Compiling entry function" "$build/log" || true)
spilled=$(grep -E "[1-9][0-9]* bytes spill" "$build/log" || true)
if [ "$kernels" -eq 0 ]; then
  echo "$build/log holds no register counts: was -Xptxas -v dropped?"
  exit 1
fi
if [ -n "$spilled" ]; then
  echo "kernels spill registers, see $build/log:"
  echo "$spilled" | sort | uniq -c
  exit 1
fi
echo "fcn_ext_cuda: $kernels kernels compiled over all architectures, none spills; $build/log"
