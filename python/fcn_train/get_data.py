"""`fcn data get`: download a published data set and unpack it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from fcn_train.console import Console
from fcn_train.data.download import download
from fcn_train.data.sources import BY_HAND, SOURCES, Source
from fcn_train.data.unpack import unpack
from fcn_train.data_options import GetOptions
from fcn_train.errors import UsageError
from fcn_train.files import write_text
from fcn_train.run_folder import refuse_folder_of_run
from fcn_train.words import counted

DONE = ".unpacked"  # suffix that marks an archive as unpacked


def get_data(options: GetOptions, console: Console) -> Path:
    """Download and unpack what is missing; returns the folder of the data.

    Raises:
        UsageError: the name is unknown or must be downloaded by hand, or `download` gives up.
        DataError: an archive is refused, see `unpack`.
    """
    root = options.root or Path("data") / options.name
    source = _source(options.name)
    refuse_folder_of_run(root, "--root")
    for mirror in options.mirror:
        if not re.match(r"https?://[^/]", mirror):
            raise UsageError(f"--mirror must be an address, https://..., got {mirror!r}")
    for item in source.files:
        download(item, root / (source.files_at or source.root), console, options.mirror)
    for item in source.archives:
        done = root / f".{item.name}{DONE}"
        if done.exists():
            continue
        archive = download(item, root, console, options.mirror)
        console.line(f"{archive}: unpacking")
        count = unpack(archive, root, limit=2 * source.unpacked)
        write_text(done, f"{counted(count, 'file')}\n")
        if not options.keep:
            archive.unlink()
    folder = root / source.root
    command = f"fcn data check --kind {source.kind} --root {shlex.quote(str(folder))}"
    console.line(f"{folder}: ready; look it through with: {command}")
    return folder


def _source(name: str) -> Source:
    if name in BY_HAND:
        raise UsageError(f"{name}: {BY_HAND[name]}")
    if name not in SOURCES:
        known = ", ".join([*SOURCES, *BY_HAND])
        raise UsageError(f"NAME must be one of {known}, got {name!r}")
    return SOURCES[name]
