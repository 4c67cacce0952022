"""Traces of torch.jit, of the sizes of the example and any values; vmap; compiled code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
import torch.utils._pytree as pytree
from torch import Tensor

from fcn_ext._uncompiled import STRATEGIES
from fcn_ext.geometry import Deconvolution, Resize
from fcn_ext.prediction import CoarseWindows, argmax_cropped, argmax_sizes, masks


def windows(scores: Tensor, average: Literal["probability", "score"]) -> CoarseWindows:
    found = CoarseWindows((12, 14), average=average)
    found.add(scores, importance="gaussian")
    found.add(scores, (1, 2, 9, 9), flip=True, seen_size=(17, 11))
    found.add(scores, geometry=Deconvolution(4, offset=1), flip=True)
    return found


PREDICTIONS: dict[str, Callable[[Tensor], Any]] = {
    "masks": lambda s: tuple(masks(s, (12, 14))),
    "packed masks": lambda s: tuple(masks(s, (12, 13), packed=True, threshold=0.2)),
    "masks by deconvolution": lambda s: tuple(masks(s, None, Deconvolution(2))),
    "sizes": lambda s: tuple(argmax_sizes(s, [(12, 14), (9, 30)])),
    "sizes by deconvolution": lambda s: tuple(argmax_sizes(s, [8, 9], Deconvolution(2))),
    "cropped": lambda s: argmax_cropped(
        s, (12, 14), (1, 2, 9, 11), (20, 8), Resize(True), return_probability=True
    ),
    "cropped, by deconvolution": lambda s: argmax_cropped(
        s, (9, 11), (1, 2, 7, 8), 30, Deconvolution(3), align_corners=True
    ),
    "windows": lambda s: windows(s, "probability").mean(),
    "labels of windows": lambda s: windows(s, "score").argmax(return_probability=True),
}


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:`torch.jit.trace")
@pytest.mark.parametrize("name", PREDICTIONS)
def test_traces_of_torch_jit_take_other_values(name: str) -> None:
    function = PREDICTIONS[name]
    generator = torch.Generator().manual_seed(0)
    traced = torch.jit.trace(
        function, torch.randn(2, 3, 4, 5, generator=generator), check_trace=False
    )
    for _ in range(2):
        scores = 3 * torch.randn(2, 3, 4, 5, generator=generator)
        torch.testing.assert_close(traced(scores), function(scores))


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("name", PREDICTIONS)
def test_examples_of_vmap_are_predicted_alike(name: str) -> None:
    function = PREDICTIONS[name]
    scores = torch.randn(3, 2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    found = torch.vmap(function)(scores)
    for example, expected in enumerate(map(function, scores)):
        ours = pytree.tree_map(lambda of, example=example: of[example], found)
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize(
    "name", ["masks", "packed masks", "sizes by deconvolution", "cropped", "labels of windows"]
)
def test_compiled_code_predicts_alike(name: str) -> None:
    """Whole graphs of masks and sizes; the others, which compute with NumPy, break the graph and
    say why."""
    function = PREDICTIONS[name]
    is_whole = name.startswith(("masks", "packed", "sizes"))
    scores = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    compiled = torch.compile(lambda s: function(2 * s), backend="eager", fullgraph=is_whole)
    for given in (scores, -scores):
        torch.testing.assert_close(compiled(given), function(2 * given), rtol=0, atol=0)
    if not is_whole and STRATEGIES:
        with pytest.raises(Exception, match="part of it is computed with NumPy"):
            torch.compile(lambda s: function(3 * s), backend="eager", fullgraph=True)(scores)


class Predicted(torch.nn.Module):
    """Scores at the size of a target, as exported programs have it: a symbol."""

    def __init__(self, function: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, scores: Tensor, target: Tensor) -> Any:
        return self.function(scores, target)


@pytest.mark.parametrize(
    "function",
    [
        lambda s, t: tuple(masks(s, t.shape[1:])),
        lambda s, t: argmax_cropped(s, t.shape[1:], (1, 2, 9, 11), (20, 8)),
        lambda s, t: argmax_cropped(s, (12, 14), (1, 2, 9, 11), t.shape[1:], Resize(True)),
    ],
)
def test_exported_programs_take_sizes_that_are_symbols(
    function: Callable[[Tensor, Tensor], Any],
) -> None:
    scores, target = torch.randn(2, 3, 4, 5), torch.zeros(2, 12, 14, dtype=torch.uint8)
    sizes = ({0: torch.export.Dim.AUTO}, dict.fromkeys((1, 2), torch.export.Dim.AUTO))
    program = torch.export.export(
        Predicted(function), (scores, target), dynamic_shapes=sizes, strict=False
    ).module()
    torch.testing.assert_close(program(2 * scores, target), function(2 * scores, target))
