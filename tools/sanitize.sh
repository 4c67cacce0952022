#!/usr/bin/env bash
# Tests and fuzzes the operators on CPU libraries built with AddressSanitizer and UBSan, and tests
# the NumPy functions, which start their own threads, with ThreadSanitizer:
#   tools/sanitize.sh PYTHON BUILD        or `make sanitize`
# CASES: how many the fuzz runs per function. CAPABILITIES: the instruction sets to run, by default
# all that the processor has. BUILD keeps the libraries for the next run.
#
# ThreadSanitizer only follows code that it instruments, and pthreads. The operators run on torch's
# OpenMP threads, whose barriers it does not see, so it would report every result as a race. Races
# there are left to tests/cuda_emulation/races and to tests of equal bits for any number of threads.
set -euo pipefail
python=$(realpath -s "$1") build=$2
project=$(dirname "$(dirname "$(realpath "$0")")")
cd "$project"
mkdir -p "$build"
build=$(realpath "$build")
cmake=$(dirname "$python")/cmake
[ -x "$cmake" ] || cmake=cmake
ninja=$(dirname "$python")/ninja
[ -x "$ninja" ] || ninja=ninja
compiler=${CXX:-c++}
torch=$("$python" -c "import pathlib, torch; print(pathlib.Path(torch.__file__).parent)")

# compile FOLDER SANITIZERS FLAGS TARGET...: compiles with FLAGS, and links with SANITIZERS.
compile() {
  local folder=$1 linked=$2
  export FCN_EXT_SANITIZERS=$3
  shift 3
  "$cmake" -S "$project" -B "$folder" -G Ninja -DCMAKE_MAKE_PROGRAM="$ninja" -DFCN_EXT_CUDA=off \
    -DCMAKE_CXX_COMPILER="$compiler" -DPython_EXECUTABLE="$python" -DFCN_EXT_TORCH_ROOT="$torch" \
    -Dpybind11_DIR="$("$python" -m pybind11 --cmakedir)" \
    -DCMAKE_CXX_COMPILER_LAUNCHER="$project/tools/sanitized_compiler.sh" \
    -DCMAKE_SHARED_LINKER_FLAGS="$linked" -DCMAKE_MODULE_LINKER_FLAGS="$linked" \
    ${CMAKE_ARGS:-} >"$build/configure.log" 2>&1 || { cat "$build/configure.log"; exit 1; }
  "$cmake" --build "$folder" --target "$@"
}
# UBSan does not check array bounds: for a vector behind a reference, GCC 12 would check its address
# instead of the index. AddressSanitizer finds accesses beyond an array.
sanitizers="-fsanitize=address,undefined -fno-sanitize=bounds"
compile "$build/cmake" "$sanitizers" "$sanitizers -fno-sanitize-recover=undefined" fcn_ext_cpu _host
compile "$build/threads" -fsanitize=thread -fsanitize=thread fcn_ext_cpu _host

# A package of the sources and these libraries, and a copy of the tests away from the sources.
rm -rf "$build/site" "$build/project"
mkdir -p "$build/site/fcn_ext/lib" "$build/project"
cp -r fcn_ext/. "$build/site/fcn_ext"
rm -f "$build"/site/fcn_ext/_host*.so "$build"/site/fcn_ext/lib/*
cp "$build"/cmake/_host*.so "$build/site/fcn_ext"
cp "$build/cmake/libfcn_ext_cpu.so" "$build/site/fcn_ext/lib"
# An editable installation would be found first.
cat >"$build/site/sitecustomize.py" <<'END'
import sys
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in type(finder).__module__]
END
cp -r tests benchmarks csrc pyproject.toml "$build/project"
cd "$build/project"

# Python leaves its memory to the system when it exits, which a leak checker would report.
export ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 UBSAN_OPTIONS=print_stacktrace=1
export PYTHONPATH="$build/site" PYTHONMALLOC=malloc OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}
runtime="$("$compiler" -print-file-name=libasan.so) $("$compiler" -print-file-name=libubsan.so)"
sanitized() {
  LD_PRELOAD="$runtime $("$compiler" -print-file-name=libstdc++.so)" "$python" "$@"
}
sanitized -c "
import fcn_ext
assert fcn_ext.__file__.startswith('$build'), fcn_ext.__file__
mapped = open('/proc/self/maps').read()
assert 'libasan' in mapped and '$build/site/fcn_ext/lib/libfcn_ext_cpu.so' in mapped
"
best=$(sanitized -c "from fcn_ext import _host; print(_host.best_cpu_capability())")
all="plain avx2 avx512"
for capability in ${CAPABILITIES:-${all%%"$best"*}$best}; do
  echo "== $capability: tests/ops"
  export FCN_EXT_CPU_CAPABILITY=$capability
  # Left out: compiled and traced calls run the same kernels, after minutes in torch's own code.
  sanitized -m pytest -q -p no:cacheprovider tests/ops tests/test_numpy.py \
    -k "not compile and not opcheck and not memory and not large and not capability" \
    ${PYTEST_ARGUMENTS:-}
  echo "== $capability: ${CASES:-2000} random calls of each function"
  sanitized -m tests.fuzz --cases "${CASES:-2000}"
done

echo "== threads of the NumPy functions: tests/test_numpy.py"
cp "$build"/threads/_host*.so "$build/site/fcn_ext"
cp "$build/threads/libfcn_ext_cpu.so" "$build/site/fcn_ext/lib"
# Without address randomization: GCC 12's ThreadSanitizer does not know newer kernels' addresses.
LD_PRELOAD="$("$compiler" -print-file-name=libtsan.so) $("$compiler" -print-file-name=libstdc++.so)" \
  TSAN_OPTIONS=exitcode=66 OMP_NUM_THREADS=1 setarch -R \
  "$python" -m pytest -q -p no:cacheprovider tests/test_numpy.py
echo "no error found by AddressSanitizer, UBSan or ThreadSanitizer"
