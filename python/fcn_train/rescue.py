"""Saves the state of a training before an error ends it."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from typing import NoReturn

from fcn_train import checkpoint
from fcn_train.errors import Interrupted, LossError, StateSaved, TrainingError, WriteError
from fcn_train.failures import is_lost_worker, is_out_of_memory
from fcn_train.processes import Processes
from fcn_train.run_folder import RunFolder
from fcn_train.signals import lost_workers_held_back
from fcn_train.state import TrainingState


@contextlib.contextmanager
def rescuing(
    state: TrainingState,
    folder: RunFolder,
    here: Processes,
    is_ahead: Callable[[], bool],
    save: Callable[[], None],
) -> Iterator[None]:
    """Save the state, if it is whole, before an error in the block ends the run.

    The block holds all that follows the start of a run: torch reports a killed loader process
    wherever the program happens to be, between two steps as well as during one.

    Args:
        state: that of the training so far.
        folder: that of the run.
        here: the processes, of which the first one saves.
        is_ahead: whether a step was taken since the run began or was resumed.
        save: write a checkpoint of ``state``.

    Raises:
        StateSaved: from the error; a checkpoint holds what was learned, or an older one, where the
            disk refused a new one.
        TrainingError: a loss was not finite. The state is not saved: its weights may be spoiled.
    """
    try:
        with here.noticing():
            yield
    except LossError as error:
        saved = folder.newest_checkpoint()
        kept = f"The last good state is {saved}" if saved else "No checkpoint was written yet"
        raise TrainingError(f"step {state.step + 1}: {error}. {kept}") from None
    except Exception as error:
        rescue = partial(_rescue, error, state, folder, here, is_ahead, save)
        try:
            rescue()
        except RuntimeError as late:
            # A loader process that died closes its pipe first: torch may report it only now.
            if late is error or not is_lost_worker(late):
                raise
            rescue()


def _rescue(
    error: Exception,
    state: TrainingState,
    folder: RunFolder,
    here: Processes,
    is_ahead: Callable[[], bool],
    save: Callable[[], None],
) -> NoReturn:
    if is_out_of_memory(error):
        traceback.clear_frames(error.__traceback__)  # they hold what filled the memory
    nothing_new = not is_ahead() or not state.whole
    if not here.first or nothing_new or isinstance(error, Interrupted):
        raise error
    with contextlib.suppress(WriteError), lost_workers_held_back(forget=True):
        here.let_go()
        newest = folder.newest_checkpoint()
        if newest is None or checkpoint.step_of(newest) != state.step:
            save()
    newest = folder.newest_checkpoint()  # an older one, where the disk refused
    if newest is None or isinstance(error, BrokenPipeError):  # or nobody reads the output
        raise error
    kept = f"The state after step {checkpoint.step_of(newest)} is saved"
    raise StateSaved(kept, folder.continue_with) from error
