"""Refuses options that were given but would have no effect."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fcn_train.errors import UsageError
from fcn_train.optim_options import OptimOptions
from fcn_train.options import TrainOptions
from fcn_train.study.options import TrainStudyOptions

Training = TrainOptions | TrainStudyOptions


def given(arguments: Sequence[str]) -> set[str]:
    """The options in ``arguments``, as their help spells them; of ``--data.no-mirror`` both that
    and ``--data.mirror``."""
    names = set()
    for argument in arguments:
        if argument.startswith("--"):
            name = argument.partition("=")[0].replace("_", "-")
            group, dot, last = name.rpartition(".")
            names |= {name, f"{group}{dot}{last.removeprefix('no-')}"}
    return names


def refuse_idle(arguments: Sequence[str], options: Training) -> None:
    """Refuse options without an effect: ``--optim.epochs`` if a number of steps that was not given
    takes precedence, and options that need another one, which is not given."""
    names, optim = given(arguments), options.optim
    _refuse_epochs(names, optim)
    needs = [
        ("--optim.power", optim.schedule == "poly", "--optim.schedule poly"),
        ("--model.mean", options.model.input == "caffe", "--model.input caffe"),
    ]
    if isinstance(options, TrainOptions):
        needs += [("--init-scores-scale", bool(options.init_scores), "--init-scores")]
    for name, has, needed in needs:
        if name in names and not has:
            raise UsageError(f"{name} has no effect without {needed}; give that, too, or neither")


def _refuse_epochs(options: Collection[str], optim: OptimOptions) -> None:
    if optim.steps and "--optim.epochs" in options and "--optim.steps" not in options:
        raise UsageError(
            f"--optim.epochs {optim.epochs:g} has no effect, as --optim.steps {optim.steps}, the "
            "default here, goes before it; give --optim.steps 0 with it"
        )


def refuse_options(arguments: Sequence[str], command: str, names: Collection[str]) -> None:
    """Refuse the options ``names``, which have no effect in the ``command``."""
    for name in names:
        if name in given(arguments):
            raise UsageError(f"{name} has no effect in {command}; leave it out")
