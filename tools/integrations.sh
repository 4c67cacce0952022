#!/usr/bin/env bash
# Trains models of other libraries with and without the context, compares, and writes the table of
# docs/integrations.md: `tools/integrations.sh WHEEL FOLDER [PYTEST ARGUMENTS]`, or `make integrations`.
# FOLDER keeps the environment for the next run; several GB, since torchvision's torch has CUDA.
set -euo pipefail
wheel=$(realpath "$1") folder=$2
shift 2
project=$(dirname "$(dirname "$(realpath "$0")")")

[ -x "$folder/bin/python" ] || "${PYTHON:-python3}" -m venv "$folder"
folder=$(realpath "$folder")
pip=("$folder/bin/python" -m pip --disable-pip-version-check install --quiet)
"${pip[@]}" torch==2.14.1 torchvision==0.29.1  # one pair
"${pip[@]}" pytest transformers segmentation_models_pytorch torchmetrics
# mmcv would have to be compiled, and the opencv that these packages require needs GUI libraries.
"${pip[@]}" --no-deps mmsegmentation==1.2.2 mmengine==0.10.7 mmcv-lite==2.1.0
"${pip[@]}" addict ftfy opencv-python-headless regex rich scipy termcolor yapf  # what they import
"${pip[@]}" "$wheel"
"${pip[@]}" --no-deps --force-reinstall "$wheel"  # a newer build has the same version

# A copy of the tests away from the project's sources, so that they test the wheel.
rm -rf "$folder/project"
mkdir "$folder/project"
cp -r "$project"/{tests,benchmarks,examples,pyproject.toml} "$folder/project"
cd "$folder/project"
export FCN_INTEGRATIONS="$folder/found.jsonl"
rm -f "$FCN_INTEGRATIONS"
"$folder/bin/python" -m pytest tests/integrations tests/deferred \
  tests/test_docs.py::test_{segformer_finetuning,torchvision_training,smp_training} "$@"
"$folder/bin/python" -m tests.integrations.table "$FCN_INTEGRATIONS" "$project/docs/integrations.md"
