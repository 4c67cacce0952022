"""The divergence of a student from its teacher, against F.kl_div of softmaxes at full size."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from fcn_ext import losses, nn, reference_losses
from fcn_ext.geometry import Deconvolution

from .contract import LAYOUTS
from .heads import CASES, PLAIN, SCORE_TYPES, Case
from .losses import GRADIENT, near


def both(module: Any, case: Case, student: Tensor, teacher: Tensor, **options: Any) -> Any:
    student = student.detach().clone().requires_grad_()
    loss = module.distillation_loss(student, teacher, case.fine, case.geometry, **options)
    loss.backward()
    return loss.detach(), student.grad


def assert_matches(case: Case, student: Tensor, teacher: Tensor, **options: Any) -> None:
    expected, expected_gradient = both(
        reference_losses, case, student.double(), teacher.double(), **options
    )
    loss, gradient = both(losses, case, student, teacher, **options)
    wide = student.dtype == torch.float64
    assert loss.dtype == (torch.float64 if wide else torch.float32)
    # Errors are those of the cross-entropies, which are larger than their difference.
    near(loss, expected, 1e-12 if wide else 2e-5)
    near(gradient, expected_gradient, GRADIENT[student.dtype], 1e-3)


@pytest.mark.parametrize("case", CASES[::4], ids=str)
def test_matches_reference(case: Case, device: torch.device) -> None:
    target = case.labels(2, 5).to(device)
    calls: list[dict[str, Any]] = [
        {"temperature": 3.0, "reduction": "sum"},
        {"target": target},
        {"reduction": "batchmean", "target": target.to(torch.uint8), "temperature": 0.5},
    ]
    for options in calls:
        for dtype in (torch.float64, torch.float32):
            student = case.scores(2, 5, dtype).to(device)
            teacher = case.scores(2, 5, dtype, seed=5).to(device)
            assert_matches(case, student, teacher, **options)


@pytest.mark.parametrize("dtype", SCORE_TYPES, ids=str)
def test_any_type_and_layout(dtype: torch.dtype) -> None:
    for place, layout in enumerate(LAYOUTS):
        case = PLAIN[place % len(PLAIN)]
        student, teacher = case.scores(2, 5, dtype), case.scores(2, 5, dtype, seed=5)
        assert_matches(case, layout(student), layout(teacher), temperature=2.0)


@pytest.mark.parametrize("temperature", [17.0, 100.0, 1e4, 1e6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_high_temperatures_leave_digits(temperature: float, dtype: torch.dtype) -> None:
    """Their square would make of float32's rounding all there is, losses below zero among it."""
    for case in PLAIN:
        student, teacher = case.scores(2, 5, dtype), case.scores(2, 5, dtype, seed=5)
        target = case.labels(2, 5)
        for options in ({"reduction": "batchmean"}, {"target": target}):
            expected, _ = both(
                reference_losses,
                case,
                student.double(),
                teacher.double(),
                temperature=temperature,
                **options,
            )
            loss, gradient = both(
                losses, case, student, teacher, temperature=temperature, **options
            )
            assert loss.dtype == torch.float32
            assert gradient.dtype == dtype
            near(loss, expected, 1e-3)
            assert loss > 0
        assert_matches(case, student, teacher, temperature=min(temperature, 1e4))


@pytest.mark.parametrize("masked", [-1e4, -1e9, -1e30, torch.finfo(torch.float32).min])
@pytest.mark.parametrize("classes", [[0], [0, 1], [3, 4]], ids=str)
def test_classes_that_are_masked_by_large_numbers(masked: float, classes: list[int]) -> None:
    """Beside them the difference of two cross-entropies would have no digits."""
    for case in PLAIN:
        student, teacher = case.scores(2, 5), case.scores(2, 5, seed=5)
        for scores in (student, teacher):
            scores[:, classes] = masked
        assert_matches(case, student, teacher)


@pytest.mark.parametrize("scale", [1e36, 1e37, 1e38, 3e38])
@pytest.mark.parametrize("alike", [True, False])
def test_sums_beyond_float32(scale: float, alike: bool) -> None:
    """The loss is that of float64, infinite where float32 cannot hold it: never NaN."""
    case = PLAIN[0]
    student = case.scores(2, 5).clamp(-1, 1) * scale
    teacher = case.scores(2, 5, seed=5).clamp(-1, 1) * (scale if alike else 1)
    for options in ({}, {"temperature": 4.0}, {"target": case.labels(2, 5), "reduction": "sum"}):
        expected, expected_gradient = both(
            reference_losses, case, student.double(), teacher.double(), **options
        )
        loss, gradient = both(losses, case, student, teacher, **options)
        assert loss.isinf() or torch.allclose(loss.double(), expected, rtol=1e-5)
        near(gradient, expected_gradient, GRADIENT[torch.float32], 1e-3)


def test_a_student_like_its_teacher_has_no_loss() -> None:
    for case in PLAIN:
        scores = case.scores(2, 5)
        loss, gradient = both(losses, case, scores, scores, temperature=2.0)
        assert loss.item() == 0
        assert not gradient.any()


def test_void_counts_for_nothing() -> None:
    case = PLAIN[1]
    void = torch.full((1, *case.fine), 255, dtype=torch.uint8)
    student, teacher = case.scores(1, 5), case.scores(1, 5, seed=5)
    loss, gradient = both(losses, case, student, teacher, target=void)
    assert loss.item() == 0
    assert not gradient.any()
    none = torch.zeros((0, 5, 3, 3))
    assert losses.distillation_loss(none, none, 9).item() == 0


def test_no_gradient_for_the_teacher() -> None:
    student, teacher = (torch.randn(1, 3, 4, 4, requires_grad=True) for _ in range(2))
    losses.distillation_loss(student, teacher, 16).backward()
    assert student.grad is not None
    assert teacher.grad is None


def test_the_same_bits_for_any_number_of_threads(threads: None) -> None:
    case = CASES[4]
    student, teacher = case.scores(2, 5), case.scores(2, 5, seed=5)
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(both(losses, case, student, teacher))
    for loss, gradient in results[1:]:
        assert torch.equal(loss, results[0][0])
        assert torch.equal(gradient, results[0][1])


def test_sizes_and_module() -> None:
    student, teacher = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    geometry = Deconvolution(4, offset=2)
    whole = geometry.output_size((4, 5))
    loss = losses.distillation_loss(student, teacher, geometry=geometry)
    assert loss == losses.distillation_loss(student, teacher, whole, geometry)
    module = nn.DistillationLoss(geometry, temperature=4.0, reduction="sum")
    expected = losses.distillation_loss(
        student, teacher, whole, geometry, temperature=4.0, reduction="sum"
    )
    assert module(student, teacher) == expected
    assert "temperature=4.0" in repr(module)
    target = torch.zeros((2, *whole), dtype=torch.uint8)
    assert module(student, teacher, target=target) == module(student, teacher, whole, target)


def test_compiles_whole() -> None:
    student, teacher = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    compiled = torch.compile(losses.distillation_loss, backend="aot_eager", fullgraph=True)
    near(compiled(student, teacher, 16), losses.distillation_loss(student, teacher, 16), 1e-6)


A, B = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 5, 5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: losses.distillation_loss(A, B, 8),
            ValueError,
            r"student and teacher must have the same shape, got \(1, 3, 4, 4\) and \(1, 3, 5, 5\)",
        ),
        (
            lambda: losses.distillation_loss(A, A),
            TypeError,
            "size or target must be given",
        ),
        (
            lambda: losses.distillation_loss(A, A, 8, temperature=0),
            ValueError,
            "temperature must be > 0, got 0",
        ),
        (
            lambda: losses.distillation_loss(A, A, 8, temperature=1e300),
            ValueError,
            "temperature must be from 1e-15 to 1e[+]15, got 1e[+]300",
        ),
        (
            lambda: losses.distillation_loss(A, A, 8, temperature=1e-300),
            ValueError,
            "temperature must be from 1e-15 to 1e[+]15, got 1e-300",
        ),
        (
            lambda: losses.distillation_loss(A, A, 8, reduction="none"),
            ValueError,
            "reduction must be 'sum', 'mean' or 'batchmean', got 'none'",
        ),
        (
            lambda: losses.distillation_loss(A, A, 8, target=torch.zeros(1, 9, 8)),
            ValueError,
            r"target must be of size \(8, 8\), got \(1, 9, 8\)",
        ),
        *[
            (
                lambda size=size, shape=shape: losses.distillation_loss(
                    A, A, size, target=torch.zeros(shape, dtype=torch.uint8)
                ),
                ValueError,
                rf"target must have shape \(N, H, W\), got {re.escape(str(shape))}",
            )
            for size in (8, (8, 8), None)
            for shape in ((8, 8), (8,), (1, 1, 8, 8), ())
        ],
        (lambda: losses.distillation_loss(A, None, 8), TypeError, "teacher must be"),
        *[
            (
                lambda dtype=dtype: losses.distillation_loss(A, A.to(dtype), 8),
                ValueError,
                "teacher must be float32, float64, float16 or bfloat16, got",
            )
            for dtype in (torch.complex64, torch.float8_e5m2, torch.int32)
        ],
        *[
            (
                lambda size=size: losses.distillation_loss(A, A, size),
                ValueError,
                r"size must be in \[1, 2\*\*30\], got",
            )
            for size in ((8, 0), (1, 2**62))
        ],
    ],
)
def test_mistakes_are_named(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
