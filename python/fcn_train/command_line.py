"""Parses the command line into options, starting from their defaults."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, get_args

import tyro
from tyro.constructors import ConstructorRegistry

from fcn_train.classify_options import ClassifyOptions
from fcn_train.compare.options import CompareOptions
from fcn_train.config import load_config
from fcn_train.data_options import (
    CheckOptions,
    DataKind,
    GetOptions,
    HhaOptions,
    SampleOptions,
    StatsOptions,
)
from fcn_train.describe_options import DescribeOptions
from fcn_train.doctor.options import DoctorOptions
from fcn_train.errors import UsageError
from fcn_train.export_options import ExportOptions
from fcn_train.given_options import refuse_idle, refuse_options
from fcn_train.help_texts import HELP, add_help
from fcn_train.model_options import ModelName
from fcn_train.optim_options import OptimOptions
from fcn_train.option_rules import check
from fcn_train.options import (
    EvaluateOptions,
    PredictOptions,
    RecipeName,
    RecipesOptions,
    TrainOptions,
)
from fcn_train.path_options import add_paths, refuse_empty_paths
from fcn_train.published import experiment_options
from fcn_train.recipes import recipe_options
from fcn_train.serve_options import ServeOptions
from fcn_train.study.options import StudyName, StudyOptions, TrainStudyOptions
from fcn_train.study.registry import STUDIES
from fcn_train.terminal import printing_to
from fcn_train.tuple_options import add_tuples

DESCRIPTION = (
    "Fully convolutional networks for semantic segmentation. `fcn train` alone generates a sample "
    "data set, trains a narrow FCN-8s on it and leaves a report."
)
READERS = ConstructorRegistry()  # of values that `tyro` would read otherwise
add_paths(READERS)
add_tuples(READERS)
DataCommand = (
    Annotated[SampleOptions, tyro.conf.subcommand("sample")]
    | Annotated[CheckOptions, tyro.conf.subcommand("check")]
    | Annotated[StatsOptions, tyro.conf.subcommand("stats")]
    | Annotated[HhaOptions, tyro.conf.subcommand("hha")]
    | Annotated[GetOptions, tyro.conf.subcommand("get")]
)


def read(arguments: Sequence[str], before: Path | None = None) -> tuple[Any, Path | None]:
    """The options of the command, and the run that `fcn train` continues, ``before`` if given."""
    defaults, run = train_defaults(arguments, before)
    options = parse(arguments, defaults)
    if isinstance(options, TrainOptions) and run is None:  # what continues a run is checked there
        refuse_idle(arguments, options)
    return options, run


def read_together(arguments: Sequence[str]) -> tuple[Any, Path | None]:
    """The options as the first of several processes reads them; and the run that they had before a
    restart."""
    from fcn_train.processes import joined

    here = joined()
    resumes = any(argument.split("=")[0] == "--resume" for argument in arguments)
    trains = arguments[:1] == ["train"]
    found = here.from_first(
        lambda: read(arguments, here.run_before(resumes=resumes) if trains else None)
    )
    if here.several and not isinstance(found[0], (TrainOptions, EvaluateOptions)):
        raise UsageError(
            f"fcn {arguments[0]} works in one process, got {here.size}; start it without torchrun"
        )
    return found


def refuse_former_options(arguments: Sequence[str]) -> None:
    """Name the new option to those who give one by its former name."""
    if any(argument.split("=")[0] == "--head" for argument in arguments):
        raise UsageError("--head is now --logits: give coarse for fused, full for materialised")


def train_defaults(
    arguments: Sequence[str], before: Path | None = None
) -> tuple[TrainOptions, Path | None]:
    """The values that `fcn train` starts from, and the run it continues.

    In this order: ``before``, what ``--resume`` finds, the file of ``--config``, the recipe.
    """
    if not arguments or arguments[0] != "train":
        return TrainOptions(), None
    if before is not None:
        return load_config(before), before
    values = _given(arguments[1:], "--recipe", "--config", "--resume", "--output")
    if values is None:
        return TrainOptions(), None
    if values["resume"] is not None:
        from fcn_train.run_folder import CONFIG, find_run

        output = Path(values["output"]) if values["output"] else None
        run = find_run(values["resume"], output)
        if values["config"] is not None and values["resume"] != "auto":
            raise UsageError(
                f"--config has no effect with --resume {run}, which has a {CONFIG} of its own; "
                "leave it out"
            )
        if run is not None:
            return load_config(run), run
    if values["config"] == "":
        raise UsageError("--config must be a path, got ''")
    if values["config"] is not None:
        if values["recipe"] is not None:
            raise UsageError("--config holds the values of a recipe already; give no --recipe")
        return load_config(Path(values["config"])), None
    recipe: Any = "default" if values["recipe"] is None else values["recipe"]
    if recipe not in get_args(RecipeName):
        kind: Any = values["data.kind"]
        return experiment_options(recipe, kind), None
    return recipe_options(recipe, **_network_and_data(values)), None


def _given(arguments: Sequence[str], *names: str) -> dict[str, str | None] | None:
    """The values in ``arguments`` of the options ``names``, the network and the kind of data, on
    which other defaults depend. None if they do not parse, and without unknown networks and kinds:
    the parser of all options reports these better."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in ("--data.kind", *names):
        parser.add_argument(name)
    parser.add_argument("--model.name", "--model")
    try:
        values = vars(parser.parse_known_args(list(arguments))[0])
    except argparse.ArgumentError:
        return None
    for key, known in (("model.name", ModelName), ("data.kind", DataKind)):
        if values[key] not in get_args(known):
            values[key] = None
    return values


def _network_and_data(values: dict[str, str | None], model: str = "fcn8s") -> dict[str, Any]:
    """The arguments of `recipe_options` for what `_given` found."""
    return {"model": values["model.name"] or model, "kind": values["data.kind"] or "sample"}


def parse(arguments: Sequence[str], defaults: TrainOptions) -> Any:
    """The options of the command in ``arguments``; ``defaults`` are those of `fcn train`."""
    add_help(READERS, arguments)
    if arguments[:1] == ["study"] and not HELP & set(arguments[1:2]):
        return parse_study(arguments[1:])
    command = (
        Annotated[TrainOptions, tyro.conf.subcommand("train", default=defaults)]
        | Annotated[EvaluateOptions, tyro.conf.subcommand("evaluate")]
        | Annotated[PredictOptions, tyro.conf.subcommand("predict")]
        | Annotated[ExportOptions, tyro.conf.subcommand("export")]
        | Annotated[ServeOptions, tyro.conf.subcommand("serve")]
        | Annotated[CompareOptions, tyro.conf.subcommand("compare")]
        | Annotated[ClassifyOptions, tyro.conf.subcommand("classify")]
        | Annotated[RecipesOptions, tyro.conf.subcommand("recipes")]
        | Annotated[DescribeOptions, tyro.conf.subcommand("describe")]
        | Annotated[DoctorOptions, tyro.conf.subcommand("doctor")]
        | Annotated[StudyName, tyro.conf.subcommand("study")]
        | Annotated[
            DataCommand,
            tyro.conf.subcommand("data", description="Get, write, check and measure data sets."),
        ]
    )
    with printing_to("standard output"):  # help
        options = tyro.cli(
            command, prog="fcn", description=DESCRIPTION, args=arguments, registry=READERS
        )
    refuse_empty_paths(options)
    return options


def parse_study(arguments: Sequence[str]) -> StudyName | StudyOptions:
    """The options of the study that ``arguments`` name first.

    Raises:
        UsageError: there is none of that name, a path is empty, an option has no effect, or one
            that `fcn train` has is out of range.
    """
    if not arguments:
        return StudyName()
    name = arguments[0]
    if name not in STUDIES:
        raise UsageError(f"fcn study must be followed by one of {', '.join(STUDIES)}, got {name!r}")
    study = STUDIES[name]
    defaults = study_defaults(study.options, arguments[1:])
    idle = study.without_effect
    without = f" (without effect: {', '.join(idle)})" if idle else ""
    with printing_to("standard output"):
        options = tyro.cli(
            type(defaults),
            prog=f"fcn study {name}",
            description=study.line + without,
            default=defaults,
            args=arguments[1:],
            registry=READERS,
        )
    refuse_empty_paths(options)
    refuse_options(arguments, f"fcn study {name}", idle)
    if isinstance(options, TrainStudyOptions):
        refuse_idle(arguments, options)
        check(TrainOptions(data=options.data, model=options.model, optim=options.optim))
    return options


def study_defaults(options: StudyOptions, arguments: Sequence[str]) -> StudyOptions:
    """The values that a study starts from: ``options``, and for the network and the kind of data
    that ``arguments`` name those of `fcn train`, as its splits and crops."""
    values = _given(arguments)
    if values is None or not isinstance(options, TrainStudyOptions):
        return options
    trained = recipe_options("default", **_network_and_data(values, options.model.name))
    optim = options.optim
    if optim.lr == OptimOptions().lr:
        optim = replace(optim, lr=trained.optim.lr)
    return replace(options, data=trained.data, model=trained.model, optim=optim)
