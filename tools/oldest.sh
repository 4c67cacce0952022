#!/usr/bin/env bash
# The tests of the program and of the NumPy side with the oldest versions of all dependencies that
# pyproject.toml allows: `tools/oldest.sh WHEEL PYTHON FOLDER [PYTEST ARGUMENTS]`, or `make oldest`.
# FOLDER keeps the environment for the next time.
set -euo pipefail
wheel=$(realpath "$1") python=$(realpath -s "$2") folder=$3
shift 3
project=$(dirname "$(dirname "$(realpath "$0")")")
chosen=("$@")
if [ $# -eq 0 ]; then
  chosen=(tests/train tests/prediction tests/models tests/test_*.py)
fi

[ -x "$folder/bin/python" ] || "$python" -m venv "$folder"
folder=$(realpath "$folder")
pip=("$folder/bin/python" -m pip --disable-pip-version-check install --quiet)
"$python" "$project/tools/oldest_requirements.py" >"$folder/oldest.txt"
grep -E '^(hypothesis|pytest|pytest-cov|pytest-xdist)==' "$project/constraints.txt" >"$folder/tests.txt"
"${pip[@]}" --requirement "$folder/oldest.txt" --requirement "$folder/tests.txt"
"${pip[@]}" --no-deps --force-reinstall "$wheel"

# A copy of the tests, out of the reach of the project's sources: the wheel is what is tested.
rm -rf "$folder/project"
mkdir "$folder/project"
cp -r "$project"/{benchmarks,csrc,docs,examples,pyproject.toml,tests,tools} "$folder/project"
cd "$folder/project"
# What old versions warn of, newer ones have mended: no error here.
FCN_SHARED_DATA=${FCN_SHARED_DATA:-$project/../shared/data} exec "$folder/bin/python" -m pytest \
  -q -n "$(nproc)" --dist worksteal --override-ini=filterwarnings= "${chosen[@]}"
