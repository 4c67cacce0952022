"""What the context holds of full size: the results that are asked for, and no logits."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext import fused_upsampling
from tests.peaks import needs_peaks, printed_peaks

from .common import labels, scores, up

# 21 MB of logits at full size.
PROGRAM = """
import json, torch, torch.nn.functional as F
from benchmarks.memory import peak_on_host
from fcn_ext import fused_upsampling, losses

torch.manual_seed(0)
torch.set_num_threads(2)
scores = torch.randn(2, 10, 64, 64, requires_grad=True)
target = torch.randint(0, 10, (2, 512, 512))
some = target.clamp(max=8)
masks = torch.randint(0, 2, (2, 10, 512, 512)).float()
labels, weight = masks.bool(), torch.rand(2, 1, 512, 512)
bce = F.binary_cross_entropy_with_logits

def train(loss):
    def call():
        with fused_upsampling():
            logits = F.interpolate(scores, (512, 512), mode="bilinear")
            return torch.autograd.grad(loss(logits), scores)
    return call

def predict(use):
    def call():
        with fused_upsampling(), torch.no_grad():
            return use(F.interpolate(scores, (512, 512), mode="bilinear"))
    return call

def two_heads(classes, depth, loss):
    return F.cross_entropy(classes, some) + loss(depth, masks[:, :1])

def in_parts(parts, of_labels):
    return sum(F.cross_entropy(x, t) for x, t in zip(parts, of_labels))

calls = {
    "cross-entropy": train(lambda x: F.cross_entropy(x, target)),
    "smoothed": train(lambda x: F.cross_entropy(x, target, label_smoothing=0.1)),
    "binary": train(lambda x: bce(x, masks)),
    "crop": train(lambda x: F.cross_entropy(x[:, :, :400, :300], target[:, :400, :300])),
    "images": train(lambda x: in_parts([image[None] for image in x], target.split(1))),
    "pieces": train(lambda x: in_parts(x.chunk(2), target.chunk(2))),
    "classes": train(lambda x: F.cross_entropy(x[:, 1:], some)),
    "probabilities as target": train(lambda x: F.cross_entropy(x, masks)),
    "two heads": train(lambda x: two_heads(*x.split([9, 1], 1), bce)),
    "a head of torch's": train(lambda x: two_heads(*x.split([9, 1], 1), F.l1_loss)),
    "a mask of two classes": predict(lambda x: x[:, :2].softmax(1)[:, 1] > 0.5),
    "scores of a class": predict(lambda x: x[:, 0] * 2),
    "probability of a class": predict(lambda x: x.softmax(1)[:, 1] * 2),
    "pixels": train(lambda x: F.cross_entropy(x, target, reduction="none").mean()),
    "binary pixels": train(lambda x: bce(x, masks, reduction="none").mean()),
    "weighed binary pixels": train(lambda x: bce(x, masks, weight)),
    "by gather": train(lambda x: -x.log_softmax(1).gather(1, target[:, None]).mean()),
    "probability by gather": train(lambda x: x.softmax(1).gather(1, target[:, None]).mean()),
    "amax": train(lambda x: F.cross_entropy(x, target) * x.detach().softmax(1).amax(1).mean()),
    "our binary pixels": train(
        lambda x: losses.sigmoid_cross_entropy(x, labels, reduction="pixels").mean()),
}
print(json.dumps({name: peak_on_host(call) for name, call in calls.items()}))
"""


@needs_peaks
def test_logits_are_not_stored() -> None:
    peak = printed_peaks(PROGRAM)
    full_size = 2 * 10 * 512 * 512 * 4
    for name in ("cross-entropy", "smoothed", "binary", "images", "pieces"):
        assert peak[name] <= full_size / 10, (name, peak)
    assert peak["crop"] <= full_size / 3, peak  # the labels, with void around them
    for name in ("classes", "two heads", "a mask of two classes"):
        assert peak[name] <= full_size / 10, (name, peak)
    assert peak["scores of a class"] <= full_size / 3, peak  # and twice these
    # Some maps of one class, with gradients, or with labels.
    for name in ("a head of torch's", "probability of a class"):
        assert peak[name] <= 0.85 * full_size, (name, peak)
    assert peak["pixels"] <= full_size / 4, peak  # some maps without classes
    assert peak["probabilities as target"] <= full_size / 2, peak  # more of them
    for name in ("by gather", "probability by gather", "amax"):
        assert peak[name] <= 0.7 * full_size, (name, peak)  # more such maps, some of labels
    # A map of losses, its gradient, and the target as bytes with what finds that it is one.
    for name in ("binary pixels", "weighed binary pixels", "our binary pixels"):
        assert peak[name] <= 2.5 * full_size, (name, peak)


# 105 MB of logits at the padded size.
PADDED = """
import json, torch, torch.nn.functional as F
from benchmarks.memory import peak_on_host
from fcn_ext import fused_upsampling

torch.manual_seed(0)
torch.set_num_threads(2)
scores = torch.randn(1, 100, 64, 64)

def resized(x, size):
    return F.interpolate(x, size, mode="bilinear")

def predict(prediction):
    def call():
        with fused_upsampling():
            return prediction(resized(scores, (512, 512))[:, :, :384])
    return call

calls = {
    "crop": predict(lambda x: x.argmax(1)),
    "winners of a crop": predict(lambda x: x.softmax(1).max(1)),
    "larger": predict(lambda x: resized(x, (500, 683)).argmax(1)),
    "smaller": predict(lambda x: resized(x, (341, 500)).argmax(1)),
    "probabilities": predict(lambda x: resized(x, (500, 683)).softmax(1).max(1)),
    "resized probabilities": predict(lambda x: resized(x.softmax(1), (500, 683)).max(1)),
    "mask": predict(lambda x: resized(x[:, :40, 4:], (500, 683)).sigmoid()[:, :, 9:] > 0.5),
}
print(json.dumps({name: peak_on_host(call) for name, call in calls.items()}))
"""


@needs_peaks
def test_padded_images() -> None:
    peak = printed_peaks(PADDED)
    padded = 100 * 512 * 512 * 4
    # A byte for each of the logits, of 40 classes here, and copies.
    assert peak.pop("mask") <= 1.1 * padded * 40 / 100
    assert max(peak.values()) <= padded / 4, peak


def hooked(logits: Tensor) -> Tensor:
    logits.register_hook(lambda grad: grad * 2)
    return F.cross_entropy(logits, labels())


def changed(logits: Tensor) -> Tensor:
    logits.mul_(2).clamp_(max=3)
    return logits.transpose_(1, 2).mean()


USES: dict[str, Callable[[Tensor], Any]] = {
    "arithmetic": lambda x: (x * 2 + x).mean(),
    "a list of tensors": lambda x: torch.cat([x, x.detach()]).mean(),
    "several results": lambda x: x.aminmax()[0].mean(),
    "a layer": lambda x: F.conv2d(x, torch.ones(2, 5, 1, 1, dtype=x.dtype)).mean(),
    "in place": changed,
    "an index": lambda x: x[:, 1:, ::2].mean(),
    "a hook": hooked,
    "a loss": lambda x: F.cross_entropy(x, labels()),
    "a probability by gather": lambda x: (
        x.softmax(1).gather(1, labels().clamp(min=0)[:, None]).sum()
    ),
    "a loss beside another": lambda x: F.cross_entropy(x, labels()) + x.softmax(1).square().mean(),
    "winners and the rest": lambda x: (x == x.max(1, keepdim=True)[0]).double().mean(),
    "a copy at its size": lambda x: F.cross_entropy(up(x), labels()),
    "images": lambda x: torch.stack([image.mean() for image in x]).sum(),
    "a subclass": lambda x: x.as_subclass(torch.nn.Parameter).mean(),
    "an array": lambda x: x.detach().numpy().mean(),
    "a copy": lambda x: copy.deepcopy(x.detach()),
    "a file": lambda x: pickle.loads(pickle.dumps(x.detach())),
    "text": lambda x: f"{x} {x.mean():.3f}",
}


@pytest.mark.parametrize("name", USES)
def test_what_is_used_is_freed_with_its_last_name(name: str) -> None:
    """As torch's tensors are, not when Python next looks for cycles."""

    def step() -> Any:
        with fused_upsampling():
            logits = up(scores())
            result = USES[name](logits)
            if isinstance(result, Tensor) and result.requires_grad:
                result.backward()
        return weakref.ref(logits), weakref.ref(logits.recipe.memory)  # type: ignore[attr-defined]

    step()  # what is imported or warned of first keeps what it sees
    gc.collect()
    gc.disable()
    try:
        assert [kept() for kept in step()] == [None, None]
    finally:
        gc.enable()
