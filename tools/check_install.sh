#!/usr/bin/env bash
# Runs `pip install .` as a user does: with build isolation, in an environment that has a torch. pip
# must use that torch, not download another one, and install a package that works.
set -euo pipefail
python=${1:-.venv/bin/python}
target=$(mktemp -d)
trap 'rm -rf "$target"' EXIT
FCN_EXT_CUDA=off "$python" -m pip wheel --quiet --no-deps --wheel-dir "$target/wheel" .
"$python" -m pip install --quiet --no-deps --target "$target/site" "$target"/wheel/*.whl
cd "$target"
PYTHONPATH="$target/site" "$(cd "$OLDPWD" && realpath -s "$python")" -I -c "
import sys
sys.path.insert(0, '$target/site')
sys.meta_path = [f for f in sys.meta_path if 'editable' not in type(f).__module__]
import torch, fcn_ext
from fcn_ext import ops, reference
from fcn_train.published import EXPERIMENTS
assert fcn_ext.__file__.startswith('$target'), fcn_ext.__file__
x = torch.randn(1, 3, 9, 9)
torch.testing.assert_close(ops.upsample(x, 8, offset=4), reference.upsample(x, 8, offset=4))
assert 'voc-fcn32s-heavy' in EXPERIMENTS, 'the wheel holds no recipes'
print('pip install . works against torch', torch.__version__)
"
