"""Examples that Hypothesis draws fail again when they have failed."""

from __future__ import annotations

import hypothesis
import torch


class TorchRandom:
    """Torch's numbers, which Hypothesis sets back before each example."""

    seed, getstate, setstate = (
        staticmethod(function)
        for function in (torch.manual_seed, torch.get_rng_state, torch.set_rng_state)
    )


TORCH_RANDOM = TorchRandom()  # Hypothesis keeps no reference
hypothesis.register_random(TORCH_RANDOM)
