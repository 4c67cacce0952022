#!/usr/bin/env bash
# The install stage of gpu.sh, which exports its variables: installs missing wheels, then fcn_ext,
# which it builds and packs for later calls, or takes from a packed install that fits.
# shellcheck disable=SC2154
set -euo pipefail

pip=("$python" -m pip install --quiet --no-deps --no-index --no-compile --target "$work/site")

# A digest of everything that the package is built from.
digest_sources() {
  cd "$root"
  find CMakeLists.txt pyproject.toml cmake csrc fcn_ext python tools/build_backend.py -type f \
    ! -path '*/__pycache__/*' ! -path '*.egg-info/*' ! -name '*.so' -print0 |
    LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -c1-16
}

# The sources and the target of a packed install. Torch's version is not part of it: any torch from
# 2.11 on loads it (stable ABI).
stamp() {
  echo "sources $(digest_sources)"
  echo "python $abi"
  case "$FCN_EXT_CUDA" in on) echo "cuda $FCN_EXT_CUDA_ARCHITECTURES" ;; *) echo "cuda off" ;; esac
}

die() { echo "install: $*" >&2; exit 1; }

take() {
  local sources built_for architectures
  mkdir "$work/packed"
  tar -C "$work/packed" -xf "$packed" || die "$packed is not a packed install: not a tar file"
  [ -f "$work/packed/stamp.txt" ] || die "$packed is not a packed install: no stamp.txt in it"
  sources="$(sed -n 's/^sources //p' "$work/packed/stamp.txt")"
  built_for="$(sed -n 's/^python //p' "$work/packed/stamp.txt")"
  architectures="$(sed -n 's/^cuda //p' "$work/packed/stamp.txt")"
  [ "$sources" = "$(digest_sources)" ] ||
    die "$packed was built from other sources; leave FCN_EXT_GPU_SH_SITE out to build these"
  [ "$built_for" = "$abi" ] || die "$packed was built for $built_for; this Python is $abi"
  if [ "$device" = cuda ]; then
    [[ ";${architectures//[ ,]/;};" == *";$capability;"* ]] ||
      die "$packed was built for the GPU architectures: $architectures; this GPU is sm_$capability"
  fi
  "${pip[@]}" "$work/packed"/*.whl
  echo "install: taken from $packed, built for the GPU architectures: $architectures"
}

build() {
  local begin=$SECONDS
  "$python" -m pip wheel --no-deps --no-index --no-build-isolation --verbose \
    --config-settings=build-dir="$work/build" --wheel-dir "$work/packed" "$root"
  "${pip[@]}" "$work/packed"/*.whl
  stamp >"$work/packed/stamp.txt"
  echo "install: built in $((SECONDS - begin)) s, GPU architectures: $(sed -n 's/^cuda //p' "$work/packed/stamp.txt")"
}

[ $# -eq 0 ] || "${pip[@]}" "$@"
if [ -n "$packed" ]; then take; else build; fi

# Checks that Python finds the package just installed, and that it loads.
"$python" -c "
import fcn_ext, fcn_ext.numpy, fcn_ext.ops, sys
from fcn_ext import _library
built = fcn_ext.numpy.build_info()
print('install: loaded:', built['cuda'] + ', CPU', built['cpu_capability'])
if not fcn_ext.__file__.startswith(sys.argv[1]):
    sys.exit(f'install: {fcn_ext.__file__} is found before {sys.argv[1]}')
if _library.cuda_problem:
    sys.exit(f'install: {_library.cuda_problem}')
" "$work/site"

# Packed last, and only if it loads.
if [ -z "$packed" ]; then
  tar -C "$work/packed" -cf "$work/site.part" .
  mv "$work/site.part" "$work/site.tar"
  echo "install: packed, $(stat --format=%s "$work/site.tar") bytes"
fi
