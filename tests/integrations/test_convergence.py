"""Nets of other libraries train as they do without the context, and predict the same labels.

``make integrations`` runs this in an environment that has the libraries.
"""

from __future__ import annotations

import pytest
import torch

from fcn_ext.deferred import _losses

from .nets import NETS, Net
from .training import STEPS, TOLERANCE, train


@pytest.mark.parametrize("net", NETS, ids=str)
@pytest.mark.filterwarnings("ignore")
def test_losses_are_equal(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(net.library, reason=f"{net.library} is not installed")
    fused_losses = []
    loss_of = _losses._loss
    monkeypatch.setattr(_losses, "_loss", lambda *a: fused_losses.append(1) or loss_of(*a))
    plain, plain_labels = train(net, fused=False)
    assert not fused_losses
    fused, labels = train(net, fused=True)
    assert len(fused_losses) >= STEPS  # that many were taken from coarse scores
    assert plain[-1] < plain[0]
    torch.testing.assert_close(torch.tensor(fused), torch.tensor(plain), rtol=TOLERANCE, atol=0)
    assert (labels != plain_labels).double().mean() < 1e-3
