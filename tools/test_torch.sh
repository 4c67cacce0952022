#!/usr/bin/env bash
# Tests the operators, metrics and nets of a wheel under another torch than it was built against:
# `tools/test_torch.sh WHEEL VERSION FOLDER [PYTEST ARGUMENTS]`, or
# `make test-torch TORCH=VERSION`. FOLDER keeps the environment for the next run.
set -euo pipefail
if [ $# -lt 3 ] || [ -z "$2" ]; then
  echo "which torch? For example: make test-torch TORCH=2.14.1" >&2
  exit 2
fi
wheel=$(realpath "$1") version=$2 folder=$3
shift 3
project=$(dirname "$(dirname "$(realpath "$0")")")
chosen=("$@")
if [ $# -eq 0 ]; then
  chosen=(-n "$(nproc)" --dist worksteal tests/ops tests/deferred tests/models
          tests/test_metrics*.py tests/test_{arguments,geometry,nn,numpy}.py)
fi

[ -x "$folder/bin/python" ] || "${PYTHON:-python3}" -m venv "$folder"
folder=$(realpath "$folder")
pip=("$folder/bin/python" -m pip --disable-pip-version-check install --quiet)
# Everything except torch has the versions of the project's own environment.
grep -v '^torch==' "$project/constraints.txt" >"$folder/constraints.txt"
"${pip[@]}" "torch==$version"
"${pip[@]}" --constraint "$folder/constraints.txt" pytest pytest-xdist hypothesis "$wheel"
"${pip[@]}" --no-deps --force-reinstall "$wheel"  # a newer build has the same version

# A copy of the tests away from the project's sources, so that they test the wheel.
rm -rf "$folder/project"
mkdir "$folder/project"
cp -r "$project"/{tests,benchmarks,csrc,pyproject.toml} "$folder/project"
cd "$folder/project"
"$folder/bin/python" -c "
import fcn_ext, torch
built = fcn_ext.numpy.build_info()['built_against_torch']
print(f'fcn_ext built against torch {built}, tested under torch {torch.__version__}')
assert torch.__version__.split('+')[0] == '$version', 'another torch'
assert fcn_ext.__file__.startswith('$folder'), fcn_ext.__file__
"
FCN_SHARED_DATA=${FCN_SHARED_DATA:-$project/../shared/data} exec "$folder/bin/python" -m pytest "${chosen[@]}"
