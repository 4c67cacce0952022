"""The options of `fcn doctor`."""

from __future__ import annotations

from dataclasses import dataclass

from fcn_train.data_options import Flag


@dataclass(frozen=True)
class DoctorOptions:
    """Report what is installed and whether every operator works, for bug reports."""

    json: Flag = False
    """Print JSON."""
    traceback: Flag = False
    """Show Python's traceback of an error."""
