"""Nets of other libraries train as they do without the context, and predict the same labels.

``make integrations`` runs this in an environment that has the libraries, and keeps what was found
for the table of docs/integrations.md (``table.py``) in the file that ``FCN_INTEGRATIONS`` names.
"""

from __future__ import annotations

import json
import os
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from fcn_ext.deferred import _losses

from .nets import NETS, Net
from .training import FIRST_STEP, STEPS, TOLERANCE, train


@pytest.mark.parametrize("net", NETS, ids=lambda net: f"{net.library}-{net}")
@pytest.mark.filterwarnings("ignore")
def test_losses_are_equal(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(net.library, reason=f"{net.library} is not installed")
    fused_losses = []
    loss_of = _losses.loss_of
    monkeypatch.setattr(_losses, "loss_of", lambda *a: fused_losses.append(1) or loss_of(*a))
    plain, plain_change, plain_labels = train(net, fused=False)
    assert not fused_losses
    fused, change, labels = train(net, fused=True)
    assert len(fused_losses) >= STEPS  # that many were taken from coarse scores
    assert plain_change.norm() > 1e-3
    assert (change - plain_change).norm() < 1e-5 * plain_change.norm()
    differences = [abs(a - b) / abs(b) for a, b in zip(fused, plain, strict=True)]
    assert differences[0] < FIRST_STEP
    assert max(differences) < TOLERANCE
    assert (labels != plain_labels).double().mean() < 1e-3
    if kept := os.environ.get("FCN_INTEGRATIONS"):
        found = {
            "name": net.name,
            "library": net.distribution,
            "version": version(net.distribution),
            "torch": torch.__version__,
            "steps": STEPS,
            "first": differences[0],
            "difference": max(differences),
        }
        with Path(kept).open("a", encoding="utf-8") as file:
            file.write(json.dumps(found) + "\n")
