"""The run that a command uses: an argument, ``fcn evaluate RUN``, or the option ``--run``.

torchrun takes ``--run`` for an option of its own, and refuses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fcn_train.errors import UsageError
from fcn_train.real_paths import real_path
from fcn_train.run_folder import CONFIG


def chosen_run(command: str, argument: Path | None, option: Path | None) -> Path:
    """The run that was named in either way.

    Raises:
        UsageError: there is none, or there are two.
    """
    if argument is not None and option is not None and not _same(argument, option):
        raise UsageError(f"two runs are given, {argument} and --run {option}; give one")
    run = option if argument is None else argument
    if run is None:
        raise UsageError(f"give the run folder: fcn {command} RUN")
    return run


def run_and_rest(
    command: str, arguments: Sequence[Path], option: Path | None
) -> tuple[Path, tuple[Path, ...]]:
    """The run and what is left of ``arguments``, of which it is the first unless it is ``option``.

    Raises:
        UsageError: there is no run, or there are two.
    """
    first = arguments[0] if arguments else None
    if option is not None and (first is None or not is_run(first)):
        return option, tuple(arguments)
    return chosen_run(command, first, option), tuple(arguments[1:])


def is_run(folder: Path) -> bool:
    """Whether it looks like a run, and so is no image."""
    return (folder / CONFIG).is_file()


def _same(one: Path, other: Path) -> bool:
    return one == other or real_path(one) == real_path(other)
