"""Named recipes: the values that `--recipe` puts in place of the defaults.

A recipe covers the optimizer, the network and how images are cut, so that
``fcn train --recipe heavy --help`` shows what would run; every value can still be overridden.
"""

from __future__ import annotations

from dataclasses import replace

from fcn_train.data_options import DataKind, default_splits
from fcn_train.errors import UsageError
from fcn_train.model_options import VOC_MEAN, WITHOUT_FC, ModelName, ModelOptions
from fcn_train.optim_options import OptimOptions
from fcn_train.options import DataOptions, RecipeName, TrainOptions

HEAVY_LR = {"fcn32s": 1e-10, "fcn16s": 1e-12, "fcn8s": 1e-14, "fcn8s-atonce": 1e-10}
HEAVY_STEPS = {"fcn32s": 100_000, "fcn16s": 100_000, "fcn8s": 100_000, "fcn8s-atonce": 300_000}
# Published on AlexNet, in the build of either program.
HEAVY_ALEXNET = ("fcn-alexnet", "fcn-alexnet-torchvision")
GOOGLENET_DROPOUT = 0.4  # that of its classifier; others have 0.5
# Mean colors (R, G, B) of the data sets whose published data layers subtract their own.
MEANS = {"nyud": (92.318, 97.203, 116.190), "sift-flow": (108.353, 115.294, 114.578)}
# Where the solver of a data set differs from VOC's.
HEAVY_LR_OF: dict[tuple[str, str], float] = {("sift-flow", "fcn8s"): 1e-12}
HEAVY_STEPS_OF = {
    (kind, model): 400_000
    for kind in ("pascal-context", "pascal-context-33")
    for model in ("fcn32s", "fcn16s", "fcn8s")
}


def recipe_options(
    recipe: RecipeName = "default", model: ModelName = "fcn8s", kind: DataKind = "sample"
) -> TrainOptions:
    """The values a named recipe stands for.

    paper: section 4.3 of Long, Shelhamer and Darrell; a step is 20 images of native size, passed
    one by one and averaged, like the authors' ``iter_size: 20``. heavy: the solvers published with
    the reference repository (``voc-fcn{32,16,8}s`` and those of the other data sets; VOC's where a
    set has none): the loss is a sum over pixels, hence learning rates of 1e-10 and below. That of
    ``voc-fcn-alexnet`` is not heavy: 20 images per step, the mean over pixels, biases as weights
    (but for score_fr's, which learns twice as fast there and not here). It has no others.

    The paper has no learning rate for SqueezeNet: paper takes VGG16's.

    Both subtract the mean color that a set's published data layer subtracts.

    Raises:
        UsageError: the recipe is heavy, which does not have this network.
    """
    options = TrainOptions(recipe=recipe)
    train_split, val_split = default_splits(kind)
    googlenet = model.startswith("fcn-googlenet")
    if recipe == "default":
        if kind != "sample":
            data = DataOptions(
                kind=kind, crop=320, scale=(0.75, 1.5), train_split=train_split, val_split=val_split
            )
            optim = replace(options.optim, lr=0.05, epochs=60.0)
            options = replace(options, data=data, optim=optim, checkpoint_every=500)
        narrow = replace(options.model, name=model)
        if model.startswith(WITHOUT_FC):
            narrow = replace(narrow, fc_channels=0)
        if googlenet:
            narrow = replace(narrow, dropout=GOOGLENET_DROPOUT)
        return replace(options, model=narrow)
    if recipe == "heavy" and model not in (*HEAVY_LR, *HEAVY_ALEXNET):
        raise UsageError(
            f"--recipe heavy is the reference repository's, which has no {model}; use paper"
        )
    published = ModelOptions(
        name=model,
        width=1.0,
        padding="published",
        batch_norm=False,
        fc_channels=0,
        dropout=GOOGLENET_DROPOUT if googlenet else 0.5,
        input="imagenet" if model.startswith("fcn-alexnet-torchvision") else "caffe",
        mean=MEANS.get(kind, VOC_MEAN),
    )
    native = DataOptions(
        kind=kind,
        crop=0,
        scale=(1.0, 1.0),
        mirror=False,
        sampling="shuffle" if recipe == "paper" else "replacement",
        train_split=train_split,
        val_split=val_split,
    )
    fixed = OptimOptions(batch=1, weight_decay=5e-4, bias_lr=2.0, bias_decay=0.0, schedule="fixed")
    alexnet = model.startswith("fcn-alexnet")
    averaged = replace(fixed, accumulate=20, momentum=0.9, loss="mean")
    if recipe == "paper":
        lr = 1e-3 if alexnet else 5e-5 if googlenet else 1e-4
        optim = replace(averaged, lr=lr, epochs=175.0)
    elif alexnet:
        optim = replace(averaged, lr=1e-4, steps=100_000, bias_lr=1.0, bias_decay=1.0)
    else:
        lr = HEAVY_LR_OF.get((kind, model), HEAVY_LR[model])
        steps = HEAVY_STEPS_OF.get((kind, model), HEAVY_STEPS[model])
        optim = replace(fixed, accumulate=1, lr=lr, momentum=0.99, loss="sum", steps=steps)
    return replace(options, data=native, model=published, optim=optim, checkpoint_every=1000)
