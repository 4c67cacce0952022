"""The command ``fcn``: train, evaluate, predict, compare, export, serve, classify and so on.

Errors that the user can correct are reported in one line, with exit code 2. The exit code is 1 if a
run cannot go on, if ``fcn data check`` finds problems, if ``fcn predict`` or ``fcn classify``
cannot read an image, or if ``fcn doctor`` finds something broken. It is 129, 130 and
143 for SIGHUP, SIGINT and SIGTERM.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fcn_train.classify_options import ClassifyOptions
from fcn_train.command_line import read, read_together, refuse_former_options
from fcn_train.compare.options import CompareOptions
from fcn_train.data_options import (
    CheckOptions,
    GetOptions,
    HhaOptions,
    StatsOptions,
)
from fcn_train.describe_options import DescribeOptions
from fcn_train.doctor.options import DoctorOptions
from fcn_train.export_options import ExportOptions
from fcn_train.launcher import place
from fcn_train.long_work import told
from fcn_train.needed import what_is_missing
from fcn_train.options import (
    EvaluateOptions,
    PredictOptions,
    RecipesOptions,
    TrainOptions,
)
from fcn_train.path_options import expand_homes
from fcn_train.serve_options import ServeOptions
from fcn_train.signals import ending_at_once, endings_raise, signal_of
from fcn_train.study.options import StudyName, StudyOptions
from fcn_train.terminal import prepare

if TYPE_CHECKING:
    from fcn_train.console import Console


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    prepare()
    try:
        os.getcwd()
    except FileNotFoundError:  # where not even torch loads
        print("fcn: the current folder was removed; go to another one", file=sys.stderr)
        return 2
    arguments = expand_homes(sys.argv[1:] if arguments is None else arguments)
    text, trace, failed = "", False, None
    try:
        with endings_raise():
            code = run_command(arguments)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 2
    except KeyboardInterrupt as error:
        text, code = "interrupted", 128 + signal_of(error)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 128 + signal.SIGPIPE
    except Exception as error:
        failed = error
        text, code, trace = _told(error, arguments)
    speaker = "fcn"
    if "fcn_train.processes" in sys.modules:  # of several, one speaks
        from fcn_train.processes import leave

        speaker, code = leave(code, failed)
    with contextlib.suppress(OSError):  # the exit code says it where standard error cannot
        if trace and speaker:
            traceback.print_exception(failed)
        if text and speaker:
            print(f"{speaker}: {text}", file=sys.stderr, flush=True)
    return code


def _told(error: Exception, arguments: Sequence[str]) -> tuple[str, int, bool]:
    """The message for an error, the exit code, and whether to show the traceback."""
    # fcn_ext could not be imported, so the module that explains other errors cannot be, either.
    if type(error).__name__ == "SettingError":
        return str(error), 2, False
    if missing := what_is_missing(error):
        return missing, 2, "--traceback" in arguments
    # Imported here, where torch is imported already, or hardly anything was done.
    try:
        from fcn_train.failures import explain
    except Exception:  # fcn_ext or torch does not load
        text = " ".join(str(error).split()).rstrip(".")
        return f"{text}; fcn doctor tells what is installed", 2, False

    words = 2 if arguments[:1] in (["study"], ["data"]) else 1
    failure = explain(error, " ".join(arguments[:words]))
    if failure is None:
        return "", 1, True
    return failure.text, failure.code, bool(failure.text) and "--traceback" in arguments


def run_command(arguments: Sequence[str]) -> int:
    refuse_former_options(arguments)
    # Imported here: `fcn --help` and mistakes in the options need no torch.
    with ending_at_once():
        options, run = read(arguments) if not place().launched else read_together(arguments)
        import_modules(options)
    if isinstance(options, DoctorOptions):  # which works where packages are missing
        from fcn_train.doctor.command import doctor

        return 1 if doctor(as_json=options.json) else 0
    from fcn_train.console import Console

    console = Console()
    # Of several processes, one speaks.
    with told(console.line) if place().rank == 0 else contextlib.nullcontext():
        return run_options(options, run, arguments, console)


def run_options(options: Any, run: Path | None, arguments: Sequence[str], console: Console) -> int:
    """Run the command that ``options`` belong to; returns the exit code."""
    if isinstance(options, TrainOptions):
        from fcn_train.train import train

        train(replace(options, resume=None, config=None), run, console)  # which are read
        return 0
    if isinstance(options, EvaluateOptions):
        from fcn_train.evaluate import evaluate_run

        evaluate_run(options, console)
        return 0
    if isinstance(options, PredictOptions):
        from fcn_train.predict import predict

        return 1 if predict(options, console) else 0
    if isinstance(options, ExportOptions):
        from fcn_train.export.command import export

        export(options, console)
        return 0
    if isinstance(options, ServeOptions):
        from fcn_train.serve.command import serve

        serve(options, console)
        return 0
    if isinstance(options, CompareOptions):
        from fcn_train.compare.command import compare

        compare(options, console)
        return 0
    if isinstance(options, ClassifyOptions):
        from fcn_train.classify import classify

        return 1 if classify(options, console) else 0
    if isinstance(options, RecipesOptions):
        from fcn_train.recipe_commands import show_recipes

        show_recipes(options, console)
        return 0
    if isinstance(options, DescribeOptions):
        from fcn_train.describe import describe

        describe(options, console)
        return 0
    if isinstance(options, StudyName):
        from fcn_train.study.command import list_studies

        list_studies(console)
        return 0
    if isinstance(options, StudyOptions):
        from fcn_train.study.command import run_study

        run_study(arguments[1], options, console)
        return 0
    if isinstance(options, GetOptions):
        from fcn_train.get_data import get_data

        get_data(options, console)
        return 0
    from fcn_train import data_commands

    if isinstance(options, CheckOptions):
        return 1 if data_commands.check_data(options, console) else 0
    if isinstance(options, StatsOptions):
        data_commands.show_statistics(options, console)
    elif isinstance(options, HhaOptions):
        data_commands.write_hha(options, console)
    else:
        data_commands.write_sample(options, console)
    return 0


def import_modules(options: Any) -> None:
    """Import the modules that the command of ``options`` needs, mainly torch."""
    modules = {
        TrainOptions: ("fcn_train.train", "torch._dynamo"),  # the first optimizer imports it
        EvaluateOptions: ("fcn_train.evaluate",),
        PredictOptions: ("fcn_train.predict",),
        ExportOptions: ("fcn_train.export.command",),
        ServeOptions: ("fcn_train.serve.command",),
        CompareOptions: ("fcn_train.compare.command",),
        ClassifyOptions: ("fcn_train.classify",),
        DescribeOptions: ("fcn_train.describe",),
        DoctorOptions: ("fcn_train.doctor.command",),
        GetOptions: ("fcn_train.get_data",),
        RecipesOptions: ("fcn_train.recipe_commands",),
        StudyName: ("fcn_train.study.command",),
    }
    if isinstance(options, StudyOptions):
        modules[type(options)] = ("fcn_train.study.command", "torch._dynamo")
    for name in modules.get(type(options), ("fcn_train.data_commands",)):
        importlib.import_module(name)
