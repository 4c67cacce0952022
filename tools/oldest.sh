#!/usr/bin/env bash
# The tests of the program, the nets and the metrics with the oldest versions of all dependencies that
# pyproject.toml allows: `tools/oldest.sh WHEEL PYTHON FOLDER [PYTEST ARGUMENTS]`, or `make oldest`.
# FOLDER keeps the environment for the next time. torch is that of constraints.txt: `make abi` tests
# older ones, whose exporters make files of fewer sizes.
set -euo pipefail
wheel=$(realpath "$1") python=$(realpath -s "$2") folder=$3
shift 3
project=$(dirname "$(dirname "$(realpath "$0")")")
chosen=("$@")
if [ $# -eq 0 ]; then
  chosen=(tests/train tests/prediction tests/models tests/test_{arguments,boundary,calibration,geometry}.py
          tests/test_{library_metrics,metrics}*.py tests/test_{nn,numpy}.py)
fi

[ -x "$folder/bin/python" ] || "$python" -m venv "$folder"
folder=$(realpath "$folder")
pip=("$folder/bin/python" -m pip --disable-pip-version-check install --quiet)
"$python" "$project/tools/oldest_requirements.py" | grep -v '^torch==' >"$folder/oldest.txt"
grep -E '^(torch|hypothesis|pytest|pytest-cov|pytest-xdist)==' "$project/constraints.txt" >"$folder/tests.txt"
"${pip[@]}" --requirement "$folder/oldest.txt" --requirement "$folder/tests.txt"
"${pip[@]}" --no-deps --force-reinstall "$wheel"

# A copy of the tests, out of the reach of the project's sources: the wheel is what is tested.
rm -rf "$folder/project"
mkdir "$folder/project"
cp -r "$project"/{benchmarks,csrc,docs,examples,pyproject.toml,tests,tools} "$folder/project"
cd "$folder/project"
# Old versions warn of what newer ones have mended, which is no error here. In the environment, so
# that tests that start pytest have it, too.
export PYTEST_ADDOPTS="--override-ini=filterwarnings= ${PYTEST_ADDOPTS:-}"
FCN_SHARED_DATA=${FCN_SHARED_DATA:-$project/../shared/data} exec "$folder/bin/python" -m pytest \
  -q -n "$(nproc)" --dist worksteal "${chosen[@]}"
