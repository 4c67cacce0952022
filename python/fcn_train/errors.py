"""The errors that the command line turns into one line and an exit code."""

from __future__ import annotations


class UsageError(Exception):
    """Input that its giver can mend: the message names the file or option and what to do."""


class TrainingError(Exception):
    """A run that cannot go on (non-finite loss, a checkpoint that could not be written)."""


class Interrupted(Exception):
    """SIGINT or SIGTERM arrived, the step was finished and the state saved."""

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum
