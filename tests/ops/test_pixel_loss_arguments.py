"""Wrong arguments of the losses that are made of the cross-entropy of pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fcn_ext import losses, nn

SCORES, TARGET = torch.zeros(1, 3, 4, 4), torch.zeros((1, 8, 8), dtype=torch.int64)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: losses.focal_loss(SCORES, TARGET, gamma=-1), ValueError, "gamma must be >= 0"),
        (
            lambda: losses.focal_loss(SCORES, TARGET, alpha=torch.ones(2)),
            ValueError,
            r"alpha must have shape \(num_classes,\) = \(3,\), got \(2,\)",
        ),
        (lambda: losses.focal_loss(SCORES, TARGET, alpha=0.25), TypeError, "alpha must be"),
        (
            lambda: losses.focal_loss(SCORES, TARGET, reduction="all"),
            ValueError,
            "reduction must be 'none', 'sum', 'mean' or 'mean_all', got 'all'",
        ),
        (
            lambda: losses.ohem_cross_entropy(SCORES, TARGET, threshold=1.5),
            ValueError,
            r"threshold must be in \[0, 1\] or None, got 1.5",
        ),
        (
            lambda: losses.ohem_cross_entropy(SCORES, TARGET, min_kept=1.5),
            ValueError,
            r"min_kept must be a count or a share in \[0, 1\], got 1.5",
        ),
        (
            lambda: losses.ohem_cross_entropy(SCORES, TARGET, min_kept=-1),
            ValueError,
            "min_kept must be >= 0, got -1",
        ),
        (
            lambda: losses.ohem_cross_entropy(SCORES, TARGET, min_kept=True),
            TypeError,
            "min_kept must be an integer, got True",
        ),
        (lambda: losses.ohem_cross_entropy(SCORES, TARGET + 3), ValueError, "got 3 at batch"),
        (lambda: losses.ohem_cross_entropy([], TARGET), TypeError, "input must be a torch.Tensor"),
        (lambda: losses.deep_supervision([], TARGET), ValueError, "heads must have at least one"),
        (lambda: losses.deep_supervision(SCORES, TARGET), TypeError, "got Tensor"),
        (
            lambda: losses.deep_supervision([SCORES], TARGET),
            ValueError,
            r"heads\[0\] must be \(scores, weight\) or .*, got Tensor",
        ),
        (
            lambda: losses.deep_supervision([(SCORES, "1")], TARGET),
            TypeError,
            r"the weight of heads\[0\] must be a number, got '1'",
        ),
        (
            lambda: nn.DeepSupervision(nn.CrossEntropyLoss(), [1.0])([SCORES, SCORES], TARGET),
            ValueError,
            "scores must be those of each head, 1, got 2",
        ),
        (
            lambda: losses.deep_supervision([(SCORES, 1.0)], TARGET, return_accuracy=True),
            TypeError,
            "loss must return a tensor, got 2 values",
        ),
        (
            lambda: losses.deep_supervision([(SCORES, 1.0)], TARGET, loss=lambda *_: "0.5"),
            TypeError,
            "loss must return a tensor, got str",
        ),
        *[
            (
                lambda weight=weight: losses.deep_supervision(
                    [(SCORES, 1.0), (SCORES, weight)], TARGET
                ),
                error,
                rf"the weight of heads\[1\] must be {message}",
            )
            for weight, error, message in (
                (torch.ones(3), ValueError, r"a number or a tensor \(\), got one of shape \(3,\)"),
                (torch.ones(1), ValueError, r"a number or a tensor \(\), got one of shape \(1,\)"),
                (torch.tensor(True), TypeError, r"a number, got tensor\(True\)"),
                (torch.tensor(1j), ValueError, "real, got torch.complex64"),
                (float("nan"), ValueError, "finite, got nan"),
                (float("inf"), ValueError, "finite, got inf"),
                (None, TypeError, "a number, got None"),
            )
        ],
        *[
            (
                lambda weights=weights: nn.DeepSupervision(nn.CrossEntropyLoss(), weights),
                error,
                message,
            )
            for weights, error, message in (
                ("ab", TypeError, r"weights\[0\] must be a number, got 'a'"),
                ({1.0, 0.4}, TypeError, r"weights must be a list of numbers, got {"),
                ({0: 1.0, 1: 0.4}, TypeError, r"weights must be a list of numbers, got {0: 1"),
                ({"out": 1.0}, TypeError, r"weights must be a list of numbers, got {'out'"),
                (frozenset({1.0}), TypeError, r"weights must be a list of numbers, got frozenset"),
                (torch.tensor(0.4), TypeError, r"weights must be a list of numbers, got tensor"),
                ([1.0, None], TypeError, r"weights\[1\] must be a number, got None"),
                ([1.0, float("nan")], ValueError, r"weights\[1\] must be finite, got nan"),
                (0.4, TypeError, "weights must be a list of numbers, got 0.4"),
                ([], ValueError, "weights must have one for each head, got none"),
            )
        ],
        *[
            (
                lambda scores=scores: nn.DeepSupervision(nn.CrossEntropyLoss(), [1.0, 0.4])(
                    scores, TARGET
                ),
                TypeError,
                f"^scores must be a list of the scores of each head, got {kind}$",
            )
            for scores, kind in (
                ({"out": SCORES, "aux": SCORES}, "dict"),
                (iter([SCORES, SCORES]), "list_iterator"),
                (None, "NoneType"),
            )
        ],
        *[
            (
                lambda loss=loss: nn.DeepSupervision(loss, [1.0]),
                TypeError,
                rf"^loss must be a module of \(scores, target\), got {found}",
            )
            for loss, found in (
                ("loss", "'loss'"),
                (None, "None"),
                (nn.CrossEntropyLoss, "<class 'fcn_ext.nn.CrossEntropyLoss'>"),
            )
        ],
        *[
            (
                lambda loss=loss: losses.deep_supervision([(SCORES, 1.0)], TARGET, loss=loss),
                TypeError,
                rf"^loss must be a function of \(scores, target, geometry\), {found}",
            )
            for loss, found in (
                ("cross_entropy", "got 'cross_entropy'"),
                (None, "got None"),
                (nn.FocalLoss, "got <class"),
                (nn.CrossEntropyLoss(), r"such as .* takes modules, got CrossEntropyLoss\("),
                (nn.DiceLoss(), r"such as .* takes modules, got DiceLoss\("),
            )
        ],
        (
            lambda: losses.ohem_cross_entropy(SCORES, TARGET, min_kept=np.float32(1.5)),
            ValueError,
            r"min_kept must be a count or a share in \[0, 1\], got 1.5",
        ),
        (
            lambda: losses.ohem_cross_entropy(SCORES, TARGET, min_kept="0.1"),
            TypeError,
            "min_kept must be an integer, got '0.1'",
        ),
        (lambda: nn.FocalLoss(8), TypeError, r"geometry must be .*Deconvolution\(8\), got 8"),
    ],
)
def test_mistakes_are_named(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
