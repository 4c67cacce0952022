"""A slice of ``make fuzz``, and that it finds what it looks for."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fcn_ext import losses, ops, reference
from fcn_ext.geometry import Deconvolution, Resize

from . import heads, maps
from .__main__ import main
from .draw import Draw
from .judge import Call, Fault, examine
from .plain import full_size
from .registry import FUNCTIONS
from .run import run_case
from .workers import Finding, batches, run_batches


def test_every_public_function_has_cases() -> None:
    public = {*ops.__all__, *losses.__all__} - {"CONVENTIONS", "Convention"}
    assert public == {name.removeprefix("losses.") for name in FUNCTIONS}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_some_cases(name: str, threads: None) -> None:
    torch.set_num_threads(1)
    for number in range(25):
        run_case(name, 0, number)


def test_full_size_is_that_of_the_reference() -> None:
    draw = Draw("plain")
    for _ in range(60):
        coarse = draw.coarse()
        geometry, fine = draw.geometry(coarse)
        if isinstance(geometry, Deconvolution) and geometry.stride > 32:
            continue
        scores = draw.normal((1, 2, *coarse))
        expected = reference.at_full_size(scores, fine, geometry)
        torch.testing.assert_close(full_size(scores, fine, geometry), expected)
    scores = torch.tensor([[[[1.0, torch.inf, 2.0]]]], dtype=torch.float64)
    found = full_size(scores, (1, 5), Resize(align_corners=True))
    assert found.flatten().tolist() == [1, torch.inf, torch.inf, torch.inf, 2]


def planted(call: Call, wrap: Callable[..., object]) -> None:
    """Examines the call of a function that has a mistake."""
    right = call.function
    call.function = lambda **given: wrap(right, **given)
    examine(call, lambda result: torch.ones_like(result), (1, 1))


def upsampling() -> Call:
    return maps.upsample(Draw("planted"))


def test_mistakes_are_found() -> None:
    count = 0

    def counted() -> int:
        nonlocal count
        count += 1
        return count

    def changing(right: Callable[..., Tensor], input: Tensor, **rest: object) -> Tensor:
        result = right(input=input, **rest)
        counted()
        if count > 3:  # in the last call of all
            input.detach()[0, 0, 0, 0] += 1
        return result

    planted(upsampling(), lambda right, **given: right(**given))
    with pytest.raises(Fault, match=r"result 0: .* expected"):
        planted(upsampling(), lambda right, **given: right(**given) * 1.01)
    with pytest.raises(Fault, match="differ in their bits"):
        planted(upsampling(), lambda right, **given: right(**given) + counted() * 1e-30)
    count = 0
    with pytest.raises(Fault, match="input was changed"):
        planted(upsampling(), changing)
    with pytest.raises(Fault, match="gradient of input"):
        planted(
            upsampling(),
            lambda right, input, **rest: right(input=1.01 * input - 0.01 * input.detach(), **rest),
        )
    with pytest.raises(Fault, match="the winner at"):
        planted(
            heads.argmax(Draw("planted"), "argmax", None),
            lambda right, **given: tuple(of * 0 for of in right(**given)),
        )


def test_ties_that_the_plain_formula_breaks_are_no_fault() -> None:
    """At 51 2/3 of 62 nodes, -8 and 16 make what 8 and 8 make, but for a position's rounding."""
    scores = torch.zeros(1, 2, 1, 63, dtype=torch.float64)
    scores[0, :, 0, 51], scores[0, :, 0, 52] = torch.tensor([[8.0, -8.0], [8.0, 16.0]])
    labels = ops.interpolate_argmax(scores, (1, 7), align_corners=True)
    logits = torch.nn.functional.interpolate(
        scores, size=(1, 7), mode="bilinear", align_corners=True
    )
    assert logits[0, 0, 0, 5] != logits[0, 1, 0, 5]
    heads._judge_winners(scores, logits, (labels,), torch.uint8)
    logits[:, 1] += 1e-9
    with pytest.raises(Fault, match="the winner at"):
        heads._judge_winners(scores, logits, (labels,), torch.uint8)


def test_each_result_is_held_to_its_own_error() -> None:
    """Where the pass without a gradient is wrong by what another result may be wrong by."""

    def two(input: Tensor) -> tuple[Tensor, Tensor]:
        alone = not input.requires_grad
        return 2 * input + (1e-3 if alone else 0), 3 * input

    def call(errors: list[float]) -> Call:
        return Call(
            two,
            {"input": torch.ones(3, dtype=torch.float64)},
            ("input",),
            results=lambda found: found,
            error=lambda _: errors,
        )

    examine(call([1e-3, 0.0]), torch.ones_like, (1, 1))
    with pytest.raises(Fault, match=r"without gradient: 2\.001 at \(0,\), expected 2\.0"):
        examine(call([0.0, 1.0]), torch.ones_like, (1, 1))


def test_crash_and_hang_are_told_with_their_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the batch goes on behind them."""
    monkeypatch.setattr("tests.fuzz.workers._MOST_SECONDS", 0.5)

    def run(name: str, seed: int, number: int) -> None:
        if number == 2:
            os.kill(os.getpid(), signal.SIGSEGV)
        if number == 4:
            time.sleep(60)
        if number == 5:
            raise Fault("wrong")

    found: list[Finding] = []
    done = run_batches(batches(["a"], 7, 8, size=8), run, 2, time.monotonic() + 60, found.append)
    assert done == {"a": 8}
    assert [(f.number, f.seed) for f in found] == [(2, 7), (4, 7), (5, 7)]
    assert [f.text for f in found] == ["the process is killed by SIGSEGV", "hangs", "wrong"]


def test_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Forked processes, which a gradient in this one would bar from theirs: of counts alone."""
    assert main(["--cases", "3", "--only", "confusion_matrix", "--seed", "5", "--jobs", "1"]) == 0
    assert "3 cases, 0 faults" in capsys.readouterr().out
    assert main(["--only", "nothing"]) == 2
    capsys.readouterr()
    for given, said in (
        (["--cases", "0"], "--cases must be > 0, got 0"),
        (["--cases", "-3"], "--cases must be > 0, got -3"),
        (["--minutes", "0"], "--minutes must be > 0, got 0.0"),
        (["--minutes", "nan"], "--minutes must be > 0, got nan"),
        (["--jobs", "0"], "--jobs must be > 0, got 0"),
        (["--case", "-1"], "--case must be >= 0, got -1"),
        (["--case", "2", "--seed", "5"], "--case is one of --seed SEED and --only FUNCTION"),
        (["--case", "2", "--only", "argmax"], "--case is one of --seed SEED and --only FUNCTION"),
    ):
        assert main(given) == 2
        assert capsys.readouterr().out.startswith(said)
    assert main(["--only", "confusion_matrix", "--seed", "5", "--case", "2", "--show"]) == 0
    assert "case 2 of confusion_matrix with seed 5 is right" in capsys.readouterr().out

    def wrong(right: Callable[[Draw], Call] = heads.confusion_matrix) -> Callable[[Draw], Call]:
        def make(draw: Draw) -> Call:
            call = right(draw)
            whole = call.function
            call.function = lambda **given: (whole(**given)[0] + 1, whole(**given)[1])
            return call

        return make

    monkeypatch.setitem(FUNCTIONS, "confusion_matrix", wrong())
    assert main(["--cases", "3", "--only", "confusion_matrix", "--seed", "5", "--jobs", "1"]) == 1
    said = capsys.readouterr().out
    assert "again: python -m tests.fuzz --only confusion_matrix --seed 5 --case" in said
    number = said.split("--case ")[1].split()[0]
    assert main(["--only", "confusion_matrix", "--seed", "5", "--case", number]) == 1
