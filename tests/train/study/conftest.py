"""A study that trains in seconds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fcn_train.options import TrainOptions
from fcn_train.study.options import TrainStudyOptions


@pytest.fixture
def tiny(tiny_options: TrainOptions) -> TrainStudyOptions:
    optim = replace(tiny_options.optim, steps=2)
    return TrainStudyOptions(
        data=tiny_options.data,
        model=tiny_options.model,
        optim=optim,
        log_every=1,
        points=1,
        threads=1,
    )
