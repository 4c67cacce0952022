"""One training of a net, plain or in the context: the same seed, the same data."""

from __future__ import annotations

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from fcn_ext import fused_upsampling

from .nets import VOID, Net

CLASSES, STEPS = 6, 50
# Of a float64 training, relative. A difference of the last bit grows with every step.
FIRST_STEP, TOLERANCE = 1e-12, 1e-6


def batch(step: int, classes: int, size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Two images of colored patches, and their labels with some void pixels."""
    generator = torch.Generator().manual_seed(step)
    coarse = torch.randint(0, classes, (2, 4, 4), generator=generator)
    target = F.interpolate(coarse[:, None].float(), size=(size, size)).long()[:, 0]
    colors = torch.randn(classes, 3, generator=torch.Generator().manual_seed(-1))
    images = colors[target].permute(0, 3, 1, 2)
    images = images + 0.3 * torch.randn(images.shape, generator=generator)
    target[torch.rand(target.shape, generator=generator) < 0.05] = VOID
    return images.to(dtype), target


def _freeze(model: nn.Module, images: Tensor) -> None:
    """Gives batch norm the statistics of these images for good."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model(images)
    for norm in norms:
        norm.eval()


def train(net: Net, *, fused: bool, steps: int = STEPS) -> tuple[list[float], Tensor, Tensor]:
    """The losses of a training in float64, how far it moved the parameters, and the labels that the
    net predicts after it."""
    torch.manual_seed(0)
    model, loss_of, predict = net.made(CLASSES, net.size)
    model.double().train()
    if net.frozen:
        first = [batch(-step, CLASSES, net.size, torch.float64)[0] for step in range(1, 13)]
        _freeze(model, torch.cat(first))
    begin = parameters_to_vector(model.parameters()).detach()
    rate = 1e-4 if net.frozen else 2e-3
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    losses = []
    with fused_upsampling() if fused else nullcontext():
        for step in range(steps):
            images, target = batch(step, CLASSES, net.size, torch.float64)
            loss = loss_of(model, images, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        model.eval()
        with torch.no_grad():
            images, _ = batch(steps, CLASSES, net.size, torch.float64)
            labels = predict(model, images, (net.size, net.size))
    return losses, parameters_to_vector(model.parameters()).detach() - begin, labels + 0
