#!/usr/bin/env bash
# Builds, tests and measures the project on a machine with an NVIDIA GPU. It suits a machine that is
# reached by commands of limited time, and from which a folder of at most 8 files comes back:
#
#   benchmarks/gpu.sh OUTDIR [STAGE[=SECONDS]...] [--dry-run]
#
# Without stages, all but initcheck. Each has a time limit of its own, or SECONDS.
#
#   install     first and always: builds fcn_ext and packs it, or takes a packed one
#   tests       the CUDA tests
#   heads, operators, compile     benchmarks of the heads, of the rest, and against torch.compile
#   memcheck, synccheck, racecheck, initcheck     compute-sanitizer, on a few tests
#   profile, ncu     times of single kernels, and the GPU's counters for those of the loss
#   train       a training run
#
# OUTDIR, new or empty, gets summary.txt, logs.tar.gz, site.tar (the packed install) and heads.json,
# operators.json, kernels.json, compiled.json, each after the stage that makes it. The project is
# installed into a temporary folder; no network is needed. The exit code is 1 if a stage did not
# pass, 2 for wrong arguments.
#
#   PYTHON                  interpreter that has torch (python3)
#   FCN_EXT_GPU_SH_SECONDS  time for everything (570); a stage with less than a third of its limit
#                           left is skipped
#   FCN_EXT_GPU_SH_SITE     site.tar of an earlier call: nothing is built
#   FCN_EXT_GPU_SH_WHEELS   folder of wheels, for what the interpreter lacks
#   FCN_EXT_GPU_SH_DEVICE   cuda, or cpu to try the script out without a GPU
set -euo pipefail
# Stages run in process groups of their own, so that a signal to this script ends all of a stage.
set -m

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/gpu"
root="$(cd "$here/../.." && pwd)"
python="${PYTHON:-python3}"
device="${FCN_EXT_GPU_SH_DEVICE:-cuda}"
budget="${FCN_EXT_GPU_SH_SECONDS:-570}"
packed="${FCN_EXT_GPU_SH_SITE:-}"
wheels="${FCN_EXT_GPU_SH_WHEELS:-}"
# shellcheck source=gpu/stages.sh
source "$here/stages.sh"
# shellcheck source=gpu/run.sh
source "$here/run.sh"

usage() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
refuse() { echo "gpu.sh: $*" >&2; exit 2; }

# ------------------------------------------------------------------ arguments
outdir="" dry_run=no
declare -A wanted=([install]=1)
choose() {
  local name="${1%%=*}"
  [ -n "${limits[$name]:-}" ] || refuse "no stage is called $name; there are ${stages[*]}"
  wanted[$name]=1
  if [ "$name" != "$1" ]; then
    [[ "${1#*=}" =~ ^[1-9][0-9]*$ ]] || refuse "$1: the limit must be whole seconds"
    limits[$name]="${1#*=}"
  fi
}
# A packed install needs no time to compile.
[ -z "$packed" ] || limits[install]=40
for argument in "$@"; do
  case "$argument" in
    --dry-run) dry_run=yes ;;
    -*) usage ;;
    *) if [ -z "$outdir" ]; then outdir="$argument"; else choose "$argument"; fi ;;
  esac
done
[ -n "$outdir" ] || usage
if [ "${#wanted[@]}" -eq 1 ] && [[ " $* " != *" install"* ]]; then
  for stage in "${stages[@]}"; do [ "$stage" = initcheck ] || wanted[$stage]=1; done
fi
case "$device" in cuda | cpu) ;; *) refuse "FCN_EXT_GPU_SH_DEVICE must be cuda or cpu, got $device" ;; esac
[[ "$budget" =~ ^[1-9][0-9]*$ ]] || refuse "FCN_EXT_GPU_SH_SECONDS must be whole seconds, got $budget"
command -v "$python" >/dev/null || refuse "PYTHON: no such program: $python"
[ -z "$packed" ] || [ -f "$packed" ] || refuse "FCN_EXT_GPU_SH_SITE: no such file: $packed"
[ -z "$wheels" ] || [ -d "$wheels" ] || refuse "FCN_EXT_GPU_SH_WHEELS: no such folder: $wheels"
if [ -n "$(ls -A "$outdir" 2>/dev/null)" ]; then refuse "OUTDIR must be new or empty: $outdir"; fi
[ -z "$packed" ] || packed="$(realpath "$packed")"
[ -z "$wheels" ] || wheels="$(realpath "$wheels")"

# ------------------------------------------------------------------ the machine
# Not in OUTDIR, so that a killed call's remains do not come back.
work="$(mktemp -d "${TMPDIR:-/tmp}/fcn_ext_gpu.XXXXXX")"
child="" capability=""
trap 'rm -rf "$work"' EXIT
trap 'stop 130' INT
trap 'stop 143' TERM
mkdir "$work/logs"
# Programs run in the temporary folder, where Python finds the installed package, not the sources.
export PYTHONPATH="$work/site${PYTHONPATH:+:$PYTHONPATH}" PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# cmake and ninja may come from wheels; NVIDIA's tools are often not on PATH.
export PATH="$work/site/bin:$PATH:/usr/local/cuda/bin"
for folder in /opt/nvidia/nsight-compute/*/; do PATH="$PATH:${folder%/}"; done
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore

declare -A facts=()
declare -a lacking=() new_wheels=()
look_around # the last thing before the first stage: it sets `facts`, `lacking` and `new_wheels`
if [ "$device" = cuda ]; then
  capability="${facts[capability]:-90}"
  export FCN_EXT_CUDA=on FCN_EXT_CUDA_ARCHITECTURES="${FCN_EXT_CUDA_ARCHITECTURES:-$capability}"
else
  export FCN_EXT_CUDA="${FCN_EXT_CUDA:-off}" FCN_EXT_CUDA_ARCHITECTURES="${FCN_EXT_CUDA_ARCHITECTURES:-90}"
fi
export CMAKE_BUILD_PARALLEL_LEVEL="${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}"
abi="${facts[abi]}"
export root work python device packed abi capability # for install.sh
if [ "$dry_run" = no ]; then
  mkdir -p "$outdir"
  outdir="$(cd "$outdir" && pwd)"
  publish
fi

# ------------------------------------------------------------------ the stages
all_passed=yes installed=no
for stage in "${stages[@]}"; do
  [ -z "${wanted[$stage]:-}" ] || run_stage "$stage"
done
[ "$dry_run" = no ] || exit 0
echo "in $outdir, in bytes:"
(cd "$outdir" && stat --format='%12s %n' ./*)
[ "$all_passed" = yes ] || { cat "$work/summary.txt"; exit 1; } # the rows are far above by now
