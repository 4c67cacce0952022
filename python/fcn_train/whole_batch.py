"""Makes layers that depend on the batch use the whole batch of all processes.

In training, batch normalization takes means over the images of all processes, and dropout drops the
elements that it would drop in a single process.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fcn_train.gloo_batch_norm import GlooBatchNorm
from fcn_train.processes import Processes
from fcn_train.share import Part

NORM = nn.modules.batchnorm._BatchNorm


class Current:
    """The part of a batch that the network is about to see."""

    part: Part | None = None


class WholeBatchDropout(nn.Dropout):
    """Dropout that draws random numbers for the whole batch, and uses those of ``current.part``."""

    def __init__(self, p: float, current: Current) -> None:
        super().__init__(p)
        self._current = current

    @torch.compiler.disable  # it would be compiled for each part
    def forward(self, input: Tensor) -> Tensor:
        part = self._current.part
        if not self.training or part is None:
            return super().forward(input)
        # Images are outermost in memory, so the layout decides in which order numbers are drawn.
        layout = torch.contiguous_format
        if input.dim() == 4 and input.is_contiguous(memory_format=torch.channels_last):
            layout = torch.channels_last
        whole = torch.ones((part.size, *input.shape[1:]), dtype=input.dtype, device=input.device)
        kept = F.dropout(whole.contiguous(memory_format=layout), self.p, True)
        return input * kept[part.start : part.stop]


def has_norm(model: nn.Module) -> bool:
    return any(isinstance(module, NORM) for module in model.modules())


def see_whole_batches(model: nn.Module, here: Processes, current: Current, *, sync: bool) -> None:
    """Replace the layers of ``model`` that would depend on this process's share of a batch.

    Parameters and buffers stay the same, and so do their names.

    Args:
        current: says which part of a batch is next.
        sync: whether batch normalization takes means over all processes.
    """

    def changed(module: nn.Module) -> nn.Module:
        if isinstance(module, nn.Dropout):
            return WholeBatchDropout(module.p, current).train(module.training)
        if sync and isinstance(module, nn.BatchNorm2d):
            made: nn.Module
            if here.group is not None:
                made = nn.SyncBatchNorm(
                    module.num_features,
                    eps=module.eps,
                    momentum=module.momentum,
                    process_group=here.group,
                )
            else:
                made = GlooBatchNorm(module.num_features, module.eps, module.momentum)
            made._parameters, made._buffers = module._parameters, module._buffers
            return made.train(module.training)
        return module

    _replace(model, changed)


def _replace(model: nn.Module, changed: Callable[[nn.Module], nn.Module]) -> None:
    for module in list(model.modules()):
        for name, child in module.named_children():
            setattr(module, name, changed(child))
