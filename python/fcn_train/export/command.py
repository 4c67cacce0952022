"""`fcn export`."""

from __future__ import annotations

from pathlib import Path

from fcn_train.card import Subject, write_file_card
from fcn_train.console import Console
from fcn_train.data.depth import NUM_CHANNELS
from fcn_train.errors import ExportError, UsageError
from fcn_train.export import onnx_reading, onnx_writing, torch_program
from fcn_train.export.check import Agreement, compare, trials
from fcn_train.export.metadata import Metadata, metadata_of
from fcn_train.export.plain import ExportedNet, plain_network
from fcn_train.export_options import SUFFIXES, ExportOptions, Format
from fcn_train.files import atomic_path, check_file, make_folder, remove_leftovers, sha256
from fcn_train.network import normalization_of
from fcn_train.run import TrainedRun, load_run
from fcn_train.run_folder import RunFolder, refuse_folder_of_run
from fcn_train.runtime import set_threads


def export(options: ExportOptions, console: Console | None = None) -> Path:
    """Write a run's network as a file that other programs run; returns its path.

    The file is run before it takes its name, on batches of three sizes, and removed if it does not
    give what the network gives.

    Raises:
        UsageError: an option is of no use for the run, or the run cannot be read.
        ExportError: the file does not give what the network gives.
        WriteError: the disk refused.
    """
    console = console or Console()
    if options.format == "onnx":
        onnx_writing.import_writers()
        onnx_reading.import_runtime()
    set_threads(options.threads, console.warn)
    run = load_run(options.run, options.weights)
    channels = run.options.data.channels
    if options.pixels != "normalized" and channels != "color":
        raise UsageError(
            f"--pixels must be normalized for {options.run}, which sees {channels}: the "
            f"normalization inside is that of color, got {options.pixels}"
        )
    suffix = SUFFIXES[options.format]
    path = options.file or options.run / f"model{suffix}"
    if path.suffix != suffix:
        raise UsageError(f"--file must end in {suffix} with --format {options.format}, got {path}")
    if not path.parent.exists() or not path.parent.samefile(options.run):
        refuse_folder_of_run(path.parent, "--file")
    check_file(path)
    make_folder(path.parent)
    remove_leftovers(path.parent)
    metadata = metadata_of(run, options.output, options.pixels)
    with atomic_path(path) as temporary:
        try:
            agreement = write_and_check(run, options.format, metadata, temporary)
        except ExportError as error:
            raise ExportError(f"{path}: was not written: {error}") from None
    console.line(f"{path}: gives {options.output}; {agreement}")
    subject = Subject(
        RunFolder(run.path),
        run.options,
        run.label_sets,
        parameters=sum(parameter.numel() for parameter in run.model.parameters()),
        checksum=metadata.weights,
        weights=options.weights,
    )
    facts = {
        "file": path.name,
        "SHA-256": sha256(path),
        "format": options.format,
        "takes": _taken(metadata),
        "gives": ", ".join(metadata.output_names),
        "checked": agreement,
        "run": metadata.run,
    }
    console.line(f"{write_file_card(path, subject, facts)}: written")
    return path


def _taken(metadata: Metadata) -> str:
    """What goes in, for people."""
    channels = NUM_CHANNELS[metadata.channels]
    what = {
        "normalized": "normalized as below, float32",
        "uint8": "RGB from 0 to 255, uint8",
        "float": "RGB from 0 to 1, float32",
    }
    return f"(N, {channels}, H, W), {what[metadata.pixels]}"


def write_and_check(run: TrainedRun, kind: Format, metadata: Metadata, path: Path) -> Agreement:
    """Write the file ``path`` and run it. Raises ExportError where it is of no use."""
    output, pixels = metadata.output, metadata.pixels
    net = ExportedNet(plain_network(run), output, pixels, normalization_of(run.options.model))
    program = torch_program.program_of(net.eval(), run.model.in_channels)
    batches = trials(run, pixels)
    images = [trial.images for trial in batches]
    if kind == "onnx":
        onnx_writing.write_onnx(program, path, metadata)
        found = onnx_reading.run_file(path, images)
    else:
        torch_program.save_program(program, path, metadata)
        found = torch_program.run_elsewhere(path, images)
    return compare(found, batches, output)
