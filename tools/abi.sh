#!/usr/bin/env bash
# Tests the operators of one wheel under several torches: `tools/abi.sh WHEEL PYTHON VERSION...`, or
# `make abi`. "newest" is the newest torch that pip finds. DRY_RUN=1 only prints what would be run.
set -euo pipefail
wheel=$1 python=$2
shift 2
tools=$(dirname "$0")
versions=()
for version in "$@"; do
  [ "$version" != newest ] || version=$("$python" "$tools/newest_torch.py")
  [[ " ${versions[*]-} " == *" $version "* ]] || versions+=("$version")
done
for version in "${versions[@]}"; do
  command=("$tools/test_torch.sh" "$wheel" "$version" "build/torch-$version"
           -q -n "$(nproc)" --dist worksteal tests/ops)
  echo "== torch $version: ${command[*]}"
  [ -n "${DRY_RUN:-}" ] || PYTHON=$python "${command[@]}"
done
echo "the operators of $(basename "$wheel") pass under torch ${versions[*]}"
