"""The errors that the command line turns into one line and an exit code."""

from __future__ import annotations


class UsageError(Exception):
    """Input that its giver can mend: the message names the file or option and what to do."""


class TrainingError(Exception):
    """A run that cannot go on: a loss that is not finite, no checkpoint that can be used."""


class LossError(TrainingError):
    """A loss that is not finite: what was learned may be spoiled as well, and is not saved."""


class WriteError(TrainingError):
    """The disk refused a file; the message names it and what to do."""


class ExportError(Exception):
    """An exported file that does not give what its network gives."""


class Interrupted(Exception):
    """SIGINT, SIGTERM or SIGHUP arrived, the step was finished and the state saved."""

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum


class LostProcess(Exception):
    """One of several processes went away without a word."""


class Elsewhere(Exception):
    """Another process has ended the work and told why; this one follows without a word."""

    def __init__(self, code: int) -> None:
        super().__init__(f"another process ended with code {code}")
        self.code = code


class StateSaved(Exception):
    """An error ended a training, of which a checkpoint is saved. The cause is the error.

    Args:
        saved: what is saved.
        remedy: what continues it.
    """

    def __init__(self, saved: str, remedy: str) -> None:
        super().__init__(saved, remedy)
        self.saved = saved
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.saved}; {self.remedy}"
