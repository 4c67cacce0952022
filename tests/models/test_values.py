"""State dicts from elsewhere: read whatever holds them, or refused by the name of what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fcn_ext.models import (
    FCN,
    build_classifier,
    build_model,
    classifier_name,
    classifier_state_dict,
    initialize_from_coarser,
    initialize_from_streams,
    initialize_scores,
    load_classifier,
    recognize_classifier,
)

WIDTH = 1 / 32
FIRST, LAST = "conv1_1.weight", "fc8.weight"


def published() -> dict[str, Tensor]:
    return classifier_state_dict(build_classifier("vgg16", num_classes=7, width=WIDTH))


def narrow(name: str = "fcn8s", **options: Any) -> FCN:
    return build_model(name, 5, width=WIDTH, **options)


def load(state: Any) -> Any:
    return load_classifier(narrow(), state)


def load_whole(state: Any) -> Any:
    return build_classifier("vgg16", num_classes=7, width=WIDTH).load(state)


def load_scores(state: Any) -> Any:
    return initialize_scores(narrow(), state, {0: [1, 2]})


LOADS = [(load, FIRST), (load_whole, FIRST), (load_whole, LAST), (load_scores, LAST)]


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.numpy(),
        lambda value: value.numpy().astype(">f4"),
        lambda value: value.numpy()[::-1].copy()[::-1],
        lambda value: np.frombuffer(value.numpy().tobytes(), np.float32).reshape(value.shape),
        lambda value: np.ma.array(value.numpy()),
        lambda value: value.tolist(),
        lambda value: value.double(),
        lambda value: torch.nn.Parameter(value),
    ],
    ids=["array", "big-endian", "backwards", "read-only", "masked", "list", "double", "parameter"],
)
@pytest.mark.parametrize("in_channels", [3, 4])
def test_values_are_read_whatever_holds_them(
    change: Callable[[Tensor], Any], in_channels: int
) -> None:
    state = published()
    expected, model = narrow(in_channels=in_channels), narrow(in_channels=in_channels)
    load_classifier(expected, state)
    load_classifier(model, {name: change(value) for name, value in state.items()})
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, expected.state_dict()[name])


@pytest.mark.parametrize("dtype", [torch.int64, torch.float8_e4m3fn, torch.float16])
@pytest.mark.parametrize("in_channels", [1, 3, 5])
def test_a_first_layer_of_any_dtype_fits_other_channels(
    dtype: torch.dtype, in_channels: int
) -> None:
    state = {name: (4 * value).to(dtype) for name, value in published().items()}
    assert load_classifier(narrow(in_channels=in_channels), state).loaded


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
@pytest.mark.parametrize(("read", "key"), LOADS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: None, "must hold real numbers, got an array of object"),
        (lambda value: "abc", "must hold real numbers, got an array of <U3"),
        (lambda value: value + 1j, "must hold real numbers, got torch.complex64"),
        (lambda value: value.numpy() + 1j, "must hold real numbers, got an array of complex64"),
        (lambda value: value > 0, "must hold real numbers, got torch.bool"),
        (lambda value: value.to("meta"), "must have values, got a tensor on the meta device"),
        (lambda value: value.to_sparse(), "must be an ordinary dense tensor, got torch.sparse_coo"),
        (
            lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8),
            "must be an ordinary dense tensor, got torch.qint8",
        ),
        (lambda value: np.ma.array(value.numpy(), mask=True), "must not be masked, got"),
    ],
)
def test_what_is_no_value_is_refused_by_name(
    read: Callable[[Any], Any], key: str, change: Callable[[Tensor], Any], message: str
) -> None:
    state: dict[str, Any] = published()
    state[key] = change(state[key])
    with pytest.raises(ValueError, match=f"^{key} {message}"):
        read(state)


@pytest.mark.parametrize(
    "read", [load, load_whole, load_scores, classifier_name, recognize_classifier]
)
@pytest.mark.parametrize(
    ("state", "message"),
    [
        (None, "must be a dict of tensors by name, got NoneType"),
        ([("a", torch.zeros(1))], "must be a dict of tensors by name, got list"),
        ({0: torch.zeros(1)}, "must have strings for keys, got 0"),
    ],
)
def test_what_is_no_state_dict_is_refused(
    read: Callable[[Any], Any], state: Any, message: str
) -> None:
    with pytest.raises(TypeError, match=f"^state_dict {message}"):
        read(state)


def unchanged(model: FCN, call: Callable[[], Any], message: str) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        call()
    for name, value in model.state_dict().items():
        assert value.is_meta or torch.equal(value, before[name])


def test_nets_without_memory_are_neither_read_nor_written() -> None:
    model, empty = narrow(), narrow().to("meta")
    for layer in model.score_layers:
        torch.nn.init.normal_(getattr(model, layer).weight)
    message = "^model must have values, got .* on the meta device"
    unchanged(empty, lambda: load_classifier(empty, published()), message)
    unchanged(empty, lambda: initialize_scores(empty, published(), {0: [1]}), message)
    unchanged(empty, lambda: initialize_from_coarser(empty, narrow("fcn16s")), message)
    message = "^what model starts from must have values, got .* on the meta device"
    coarser = narrow("fcn16s").to("meta")
    unchanged(model, lambda: initialize_from_coarser(model, coarser), message)
    both = narrow(streams=["a", "b"])
    nets = {"a": narrow(), "b": coarser}
    unchanged(both, lambda: initialize_from_streams(both, nets), message)


@pytest.mark.parametrize("other", [None, {}, torch.nn.Conv2d(3, 5, 1), [1]])
def test_what_is_no_net_is_refused(other: Any) -> None:
    message = f"must be an FCN or a MultiHeadFCN, got {type(other).__name__}"
    model = narrow()
    for call, name in (
        (lambda: initialize_from_coarser(model, other), "coarser"),
        (lambda: initialize_from_coarser(other, model), "model"),
        (lambda: initialize_scores(other, published(), {0: [1]}), "model"),
        (lambda: initialize_from_streams(other, {"a": model}), "model"),
        (lambda: initialize_from_streams(model, {"main": other}), r"nets\['main'\]"),
    ):
        with pytest.raises(TypeError, match=f"^{name} {message}"):
            call()
    with pytest.raises(TypeError, match=r"^nets must be a dict by trunk, got FCN"):
        initialize_from_streams(model, model)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rows", "rest", "message"),
    [
        ([1], None, "rows must be a dict of rows by class, got list"),
        ({0: 1}, None, "rows must have a list of rows for each class, got 1"),
        ({0: "12"}, None, "rows must have a list of rows for each class, got '12'"),
        ({0: [1.5]}, None, "rows must be an integer, got 1.5"),
        ({0: [True]}, None, "rows must be an integer, got True"),
        ({True: [1]}, None, "rows must be an integer, got True"),
        ({"0": [1]}, None, "rows must be an integer, got '0'"),
        ({0: [1]}, "a", "rest must be an integer, got 'a'"),
        ({0: [1]}, 1.0, "rest must be an integer, got 1.0"),
    ],
)
def test_rows_are_integers(rows: Any, rest: Any, message: str) -> None:
    with pytest.raises(TypeError, match=f"^{message}"):
        initialize_scores(narrow(), published(), rows, rest=rest)


def test_rows_may_be_arrays() -> None:
    expected, state = narrow(), published()
    initialize_scores(expected, state, {0: [1, 2]}, rest=3)
    for rows in (np.array([1, 2]), torch.tensor([1, 2]), range(1, 3)):
        model = narrow()
        initialize_scores(model, state, {np.int64(0): rows}, rest=np.int32(3))  # type: ignore
        assert torch.equal(model.score_fr.weight, expected.score_fr.weight)
