#!/usr/bin/env bash
# Builds, tests and measures the project on a machine with an NVIDIA GPU, within ten minutes:
#
#   benchmarks/gpu.sh OUTDIR [--dry-run]
#
# Stages: install, import, tests, heads, benchmark, train, memcheck, racecheck, compiled. One that
# fails stops no other. In OUTDIR: summary.txt, a log of every stage, heads.json, benchmark.json,
# train.json and compiled.json, all written as they come. The project is installed into a temporary
# folder, never into the system or its environments, and needs no network. The exit code is 1 if a
# stage failed, 2 for wrong arguments.
#
#   PYTHON                  interpreter with torch, numpy, pytest, hypothesis, cmake, ninja,
#                           pybind11 and scikit-build-core (python3)
#   FCN_EXT_WHEELS          folder of wheels for what else is missing, e.g. tyro and what it needs
#   FCN_EXT_GPU_SH_DEVICE   cuda, or cpu to try the script out without a GPU
#   FCN_EXT_GPU_SH_SECONDS  time for everything (580)
#   FCN_EXT_GPU_SH_STAGES   stages after import, e.g. "tests memcheck" (all)
set -uo pipefail

usage() { sed -n '2,19s/^# \{0,1\}//p' "$0" >&2; exit 2; }

outdir="" dry_run=no
for argument in "$@"; do
  case "$argument" in
    --dry-run) dry_run=yes ;;
    -*) usage ;;
    *) [ -z "$outdir" ] || usage; outdir="$argument" ;;
  esac
done
[ -n "$outdir" ] || usage

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="${PYTHON:-python3}"
device="${FCN_EXT_GPU_SH_DEVICE:-cuda}"
seconds="${FCN_EXT_GPU_SH_SECONDS:-580}"
wanted="wheels install import ${FCN_EXT_GPU_SH_STAGES:-tests heads benchmark train memcheck racecheck compiled}"
case "$device" in cuda | cpu) ;; *) echo "FCN_EXT_GPU_SH_DEVICE must be cuda or cpu, got $device" >&2; exit 2 ;; esac
command -v "$python" >/dev/null || { echo "PYTHON: no such program: $python" >&2; exit 2; }

mkdir -p "$outdir"
outdir="$(cd "$outdir" && pwd)"
work="$(mktemp -d "${outdir%/*}/fcn_ext_gpu.XXXXXX" 2>/dev/null || mktemp -d)" || exit 2
trap 'rm -rf "$work"' EXIT
summary="$outdir/summary.txt"
[ "$dry_run" = yes ] && summary=/dev/null

# Programs run in the temporary folder: there the installed package is found, not the sources.
export PYTHONPATH="$work/site${PYTHONPATH:+:$PYTHONPATH}" PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
export PATH="$work/site/bin:$PATH" # cmake and ninja, where they come as wheels
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
has() { "$python" -c "import $1" 2>/dev/null; }

say() { echo "$*" | tee -a "$summary"; }

describe() {
  date -u +"%Y-%m-%d %H:%M UTC"
  nvidia-smi --query-gpu=name,driver_version,compute_cap,memory.total,clocks.sm,clocks.mem \
    --format=csv,noheader 2>/dev/null || echo "no nvidia-smi"
  "$python" -c 'import sys, torch; print("python", sys.version.split()[0], "torch", torch.__version__)'
  nvcc --version 2>/dev/null | grep release
  echo "$(nproc) cores, device $device"
}

# stage NAME SECONDS LOG COMMAND...: within its own time and what is left of all of it. What takes
# longer is interrupted as from a keyboard, so that pytest still tells what failed, then killed.
failed=0 started=$SECONDS
stage() {
  local name="$1" limit="$2" log="$outdir/$3" begin=$SECONDS left code
  shift 3
  case " $wanted " in *" $name "*) ;; *) return ;; esac
  left=$((seconds - (SECONDS - started)))
  [ "$left" -lt "$limit" ] && limit="$left"
  if [ "$dry_run" = yes ]; then
    say "$name, at most $limit s:$(printf ' %q' "$@")"
    return
  fi
  if [ "$limit" -lt 5 ]; then
    echo "no time is left for $name" >>"$log"
    code=124
  else
    echo "== $name: $*" >>"$log"
    (cd "$work" && exec timeout --signal=INT --kill-after=10 "$limit" "$@") >>"$log" 2>&1 </dev/null
    code=$?
  fi
  [ "$code" -eq 0 ] || failed=1
  printf '%-12s %8d %5d  %s\n' "$name" "$((SECONDS - begin))" "$code" "${log##*/}" | tee -a "$summary"
}

if [ "$dry_run" = no ]; then
  (cd "$outdir" && rm -f summary.txt {install,tests,heads,benchmark,train,sanitizer,compiled}.log \
    {heads,benchmark,train,compiled}.json)
fi
describe | tee -a "$summary"
[ "$dry_run" = yes ] || printf '%-12s %8s %5s  %s\n' stage seconds exit log | tee -a "$summary"

# ------------------------------------------------------------------ install
export CMAKE_BUILD_PARALLEL_LEVEL="${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}"
if [ "$device" = cuda ]; then
  architecture="$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -1 | tr -d .)"
  export FCN_EXT_CUDA=on FCN_EXT_CUDA_ARCHITECTURES="${FCN_EXT_CUDA_ARCHITECTURES:-${architecture:-90}}"
else
  export FCN_EXT_CUDA="${FCN_EXT_CUDA:-off}"
fi
wheels=()
if [ -n "${FCN_EXT_WHEELS:-}" ]; then
  for wheel in "$FCN_EXT_WHEELS"/*.whl; do
    # What the interpreter has of a package is left alone.
    name="$(basename "$wheel" | cut -d- -f1)"
    [ -e "$wheel" ] && ! has "$name" && wheels+=("$(cd "$(dirname "$wheel")" && pwd)/$(basename "$wheel")")
  done
fi
pip=("$python" -m pip install --no-deps --no-index --target "$work/site")
[ "${#wheels[@]}" -eq 0 ] || stage wheels 60 install.log "${pip[@]}" "${wheels[@]}"
stage install 240 install.log "${pip[@]}" --no-build-isolation --verbose \
  --config-settings=build-dir="$work/build" "$root"

stage import 60 install.log "$python" -c "
import fcn_ext, fcn_ext.numpy, fcn_ext.ops, sys
from fcn_ext import _library
print(fcn_ext.__file__, fcn_ext.numpy.build_info(), _library.cuda_problem or 'loaded')
sys.exit(not fcn_ext.__file__.startswith(sys.argv[1]) or bool(_library.cuda_problem))
" "$work/site"

# ------------------------------------------------------------------ tests
# Each test is named before it runs, and again if it hangs.
pytest=("$python" -m pytest -c "$root/pyproject.toml" -p no:cacheprovider --no-header --tb=short
  -o faulthandler_timeout=60)
parallel=()
has xdist && parallel=(-n "$(($(nproc) < 6 ? $(nproc) : 6))")
if [ "$device" = cuda ]; then
  stage tests 200 tests.log "${pytest[@]}" -v "${parallel[@]}" --continue-on-collection-errors -m cuda \
    "$root/tests/cuda" "$root/tests/ops" "$root"/tests/test_metrics*.py
else
  stage tests 120 tests.log "${pytest[@]}" -q -m "not cuda" -k "matches_reference and float32" "$root/tests/ops"
fi

# ------------------------------------------------------------------ benchmark
# Compilers take longer than all that is measured, so they come last, on the rows of a promise.
benchmark=("$python" "$root/benchmarks" --device "$device")
heads=("${benchmark[@]}" --rows heads --output "$outdir/heads.json" --no-compile)
operators=("${benchmark[@]}" --rows operators --output "$outdir/benchmark.json" --no-compile)
compiled=("${benchmark[@]}" --rows heads --output "$outdir/compiled.json")
if [ "$device" = cuda ]; then
  stage heads 150 heads.log "${heads[@]}" --check --seconds 0.2 --time-limit 130
  stage benchmark 150 benchmark.log "${operators[@]}" --check --seconds 0.2 --time-limit 130
else
  short=(--filter voc-s32/float32 --seconds 0.5)
  stage heads 150 heads.log "${heads[@]}" "${short[@]}"
  stage benchmark 150 benchmark.log "${operators[@]}" "${short[@]}"
fi

# ------------------------------------------------------------------ training
short=() limit=120
if [ "$device" = cpu ]; then
  short=(--optim.steps 10 --model.width 0.125 --evaluate-every 0) limit=240
fi
stage train "$limit" train.log "$python" -m fcn_train train --device "$device" --output "$work/train" "${short[@]}"
if [ -f "$work/train/metrics.json" ]; then cp "$work/train/metrics.json" "$outdir/train.json"; fi

# ------------------------------------------------------------------ compute-sanitizer
sanitizer="$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)"
if [ "$device" = cuda ] && [ -n "$sanitizer" ]; then
  subset=("${pytest[@]}" -v -m cuda -k "matches_reference and (float32 or bfloat16)" "$root/tests/ops")
  # Without torch's pool every tensor is an allocation of its own, whose end memcheck knows.
  for tool in memcheck racecheck; do
    stage "$tool" 90 sanitizer.log env PYTORCH_NO_CUDA_MEMORY_CACHING=1 \
      "$sanitizer" --tool "$tool" --error-exitcode 9 --print-limit 20 "${subset[@]}"
  done
else
  say "memcheck, racecheck: left out, no compute-sanitizer or no GPU"
fi

# ------------------------------------------------------------------ torch.compile
if [ "$device" = cuda ]; then
  rows="interpolate_cross_entropy/*/float32"
  stage compiled 110 compiled.log "${compiled[@]}" --check --seconds 0.2 --time-limit 80 \
    --filter "$rows" --compile "$rows"
fi

[ "$dry_run" = yes ] && exit 0
echo "total $((SECONDS - started)) s, in $outdir:"
ls -l "$outdir" | awk 'NR > 1 {print $5, $9}'
exit "$failed"
