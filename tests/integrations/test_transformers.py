"""The registered loss and the post-processing of Hugging Face transformers."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext import fused_upsampling
from fcn_ext.deferred import _losses
from fcn_ext.integrations.transformers import (
    post_process_semantic_segmentation,
    restore_loss,
    set_loss,
)


def test_the_loss_is_set_and_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    utils = pytest.importorskip("transformers.loss.loss_utils", reason="transformers is not here")
    name, counted = "ForSemanticSegmentation", []
    loss_of = _losses.loss_of
    monkeypatch.setattr(_losses, "loss_of", lambda *a: counted.append(1) or loss_of(*a))
    original = utils.LOSS_MAPPING[name]
    scores = torch.randn(2, 5, 8, 8, dtype=torch.float64, requires_grad=True)
    auxiliary = torch.randn(2, 5, 4, 4, dtype=torch.float64)
    target = torch.randint(0, 5, (2, 32, 32))
    options: dict[str, Any] = {"auxiliary_logits": auxiliary, "ignore_index": 3}
    expected = original(scores, target, **options)
    assert not counted
    set_loss()
    set_loss()
    try:
        loss = utils.LOSS_MAPPING[name](scores, target, **options)
        assert len(counted) == 2
    finally:
        restore_loss()
    restore_loss()
    assert utils.LOSS_MAPPING[name] is original
    torch.testing.assert_close(loss, expected)
    (ours,), (plain,) = (torch.autograd.grad(value, scores) for value in (loss, expected))
    torch.testing.assert_close(ours, plain)


@pytest.fixture
def mapping(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A registry in place of the one of transformers, which need not be here."""
    registry = SimpleNamespace(LOSS_MAPPING={"ForSemanticSegmentation": lambda: "theirs"})
    for name in ("transformers", "transformers.loss"):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace())
    monkeypatch.setitem(sys.modules, "transformers.loss.loss_utils", registry)
    return registry.LOSS_MAPPING  # type: ignore[no-any-return]


def test_a_loss_that_is_put_there_in_between_stays(mapping: dict[str, Any]) -> None:
    name = "ForSemanticSegmentation"
    theirs, mine = mapping[name], lambda: "mine"
    set_loss()
    assert mapping[name] is not theirs
    mapping[name] = mine
    restore_loss()
    assert mapping[name] is mine
    set_loss()
    mapping[name] = theirs
    set_loss()  # around the new one
    assert (mapping[name](), mapping[name] is theirs) == ("theirs", False)
    restore_loss()
    assert mapping[name] is theirs


def test_a_registry_without_the_loss_is_named(mapping: dict[str, Any]) -> None:
    mapping.clear()
    with pytest.raises(ImportError, match=r"^set_loss needs transformers .*: pip install -U"):
        set_loss()


SIZES = [(20, 31), (8, 8), (5, 40)]


@pytest.mark.parametrize("sizes", [SIZES, torch.tensor(SIZES), [list(size) for size in SIZES]])
def test_post_processing(sizes: Any) -> None:
    logits = torch.randn(3, 6, 8, 8, dtype=torch.float64)
    maps = post_process_semantic_segmentation(SimpleNamespace(logits=logits), sizes)
    for image, (size, map) in enumerate(zip(SIZES, maps, strict=True)):
        expected = F.interpolate(logits[image : image + 1], size, mode="bilinear").argmax(1)[0]
        assert map.dtype == torch.int64
        assert torch.equal(map, expected)


def test_post_processing_without_sizes() -> None:
    logits = torch.randn(2, 6, 8, 8)
    with fused_upsampling():
        large = F.interpolate(logits, (16, 16), mode="bilinear")
    for given, expected in ((logits, logits), (large, large + 0)):
        maps = post_process_semantic_segmentation(SimpleNamespace(logits=given))
        assert torch.equal(torch.stack(maps), expected.argmax(1))


@pytest.mark.parametrize(
    ("logits", "sizes", "error", "message"),
    [
        (torch.zeros(2, 3, 4, 4), [(8, 8)], ValueError, "a size for each image, 2, got 1"),
        (torch.zeros(3, 4, 4), [(8, 8)], ValueError, r"outputs.logits must have shape \(N, C, H"),
        (None, None, TypeError, "outputs.logits must be a torch.Tensor, got NoneType"),
        (
            torch.zeros(1, 3, 4, 4),
            [(8.5, 8)],
            TypeError,
            r"target_sizes\[0\] must be an integer, got 8",
        ),
        (
            torch.zeros(2, 3, 4, 4),
            [(8, 8), (8, 0)],
            ValueError,
            r"^target_sizes\[1\] must be in \[1, 2\*\*30\], got \(8, 0\)$",
        ),
        *[
            (torch.zeros(1, 0, 4, 4), sizes, ValueError, "^outputs.logits must have at least one")
            for sizes in (None, [(8, 8)])
        ],
    ],
)
def test_wrong_arguments(
    logits: Tensor | None, sizes: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        post_process_semantic_segmentation(SimpleNamespace(logits=logits), sizes)


@pytest.mark.parametrize("outputs", [{"logits": torch.zeros(1, 3, 4, 4)}, None, SimpleNamespace()])
def test_outputs_without_logits_are_refused(outputs: Any) -> None:
    kind = type(outputs).__name__
    with pytest.raises(TypeError, match=f"^outputs must have logits, got {kind} without them$"):
        post_process_semantic_segmentation(outputs)


@pytest.mark.parametrize("sizes", [None, [(8, 8)]])
def test_logits_that_are_no_scores_are_refused(sizes: Any) -> None:
    logits = torch.zeros(1, 3, 4, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"^outputs.logits must be float32, .* got int64$"):
        post_process_semantic_segmentation(SimpleNamespace(logits=logits), sizes)


def test_their_post_processing_in_the_context() -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    processor = transformers.SegformerImageProcessor()
    logits = torch.randn(3, 6, 8, 8, dtype=torch.float64)
    outputs = SimpleNamespace(logits=logits)
    plain = processor.post_process_semantic_segmentation(outputs, SIZES)
    with fused_upsampling():
        ours = processor.post_process_semantic_segmentation(outputs, SIZES)
    assert all(torch.equal(*maps) for maps in zip(ours, plain, strict=True))


def test_a_library_that_is_absent_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setitem(sys.modules, "transformers.loss.loss_utils", None)
    with pytest.raises(ImportError, match=r"^set_loss needs transformers .*: pip install -U"):
        set_loss()
