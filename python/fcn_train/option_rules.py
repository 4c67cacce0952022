"""The rules that the options of `fcn train` must follow."""

from __future__ import annotations

from math import inf, isfinite

from fcn_train.errors import UsageError
from fcn_train.model_options import WITHOUT_FC
from fcn_train.optim_options import Rule, optim_rules
from fcn_train.options import TrainOptions
from fcn_train.sizes import parse_size

LARGEST_SCALE = 64
MOST_WORKERS = 1024


def seed_rule(seed: int) -> Rule:
    """What ``--seed`` of any command must be for torch and NumPy to accept it."""
    return ("--seed", 0 <= seed < 2**63, "in [0, 2**63)", seed)


def refuse_seed(seed: int) -> None:
    """Refuse a seed that breaks ``seed_rule``, in a command with few other rules."""
    name, holds, rule, value = seed_rule(seed)
    if not holds:
        raise UsageError(f"{name} must be {rule}, got {value}")


def check(options: TrainOptions) -> None:
    """Refuse values that no run can have, naming the option."""
    data, model, optim = options.data, options.model, options.optim
    rules = [
        ("--data.crop", 0 <= data.crop <= 65536, "in [0, 65536]", data.crop),
        (
            "--data.crop",
            data.crop > 0 or not options.compile,
            "> 0 with --compile, which makes code for images of one size",
            data.crop,
        ),
        (
            "--data.scale",
            0 < data.scale[0] <= data.scale[1] <= LARGEST_SCALE,
            f"0 < low <= high <= {LARGEST_SCALE}",
            data.scale,
        ),
        ("--data.jitter", 0 <= data.jitter <= 65536, "in [0, 65536]", data.jitter),
        (
            "--data.cache",
            not (data.cache and data.memory),
            "left out with --data.memory",
            data.cache,
        ),
        (
            "--data.workers",
            -1 <= data.workers <= MOST_WORKERS,
            f"in [-1, {MOST_WORKERS}]",
            data.workers,
        ),
        ("--model.width", model.width > 0, "> 0", model.width),
        ("--model.fc-channels", model.fc_channels >= 0, ">= 0", model.fc_channels),
        (
            "--model.fc-channels",
            model.fc_channels == 0 or not model.name.startswith(WITHOUT_FC),
            f"0 for {model.name}, which has neither fc6 nor fc7",
            model.fc_channels,
        ),
        ("--model.dropout", 0 <= model.dropout < 1, "in [0, 1)", model.dropout),
        (
            "--model.mean",
            all(0 <= value <= 255 for value in model.mean),
            "in [0, 255], three numbers",
            model.mean,
        ),
        (
            "--model.skip-scales",
            all(map(isfinite, model.skip_scales)),
            "finite numbers",
            model.skip_scales,
        ),
        *optim_rules(optim),
        (
            "--evaluate-every",
            0 <= options.evaluate_every < inf,
            ">= 0 and finite",
            options.evaluate_every,
        ),
        ("--checkpoint-every", options.checkpoint_every >= 1, ">= 1", options.checkpoint_every),
        ("--log-every", options.log_every >= 1, ">= 1", options.log_every),
        (
            "--init-scores-scale",
            0 < options.init_scores_scale < inf,
            "> 0 and finite",
            options.init_scores_scale,
        ),
        seed_rule(options.seed),
        ("--threads", 0 <= options.threads <= 1024, "in [0, 1024]", options.threads),
        ("--patience", options.patience >= 0, ">= 0", options.patience),
        (
            "--patience",
            options.patience == 0 or options.evaluate_every > 0,
            "0 without evaluations (--evaluate-every 0)",
            options.patience,
        ),
    ]
    for name, holds, rule, value in rules:
        if not holds:
            raise UsageError(f"{name} must be {rule}, got {value}")
    if data.cache:
        try:
            parse_size(data.cache)
        except ValueError as error:
            raise UsageError(f"--data.cache {error}") from None
    sources = {
        "--init-classifier": options.init_classifier,
        "--init-coarser": options.init_coarser,
        "--init-weights": options.init_weights,
        "--init-streams": options.init_streams,
    }
    given = [name for name, path in sources.items() if path]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} exclude each other; give one")
    if options.init_streams and model.fusion != "late":
        raise UsageError(
            f"--init-streams needs --model.fusion late, which starts from them, got {model.fusion}"
        )
    if options.init_scores and not options.init_classifier:
        raise UsageError(
            "--init-scores names rows of the classifier that --init-classifier gives, which is "
            "missing"
        )
