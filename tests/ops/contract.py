"""The questions that every map-to-map operator answers, asked once.

A test file subclasses :class:`MapContract` with its cases; it inherits the reference, gradient,
opcheck, tracing, layout and determinism tests. ``fcn_ext.reference`` in float64 is the truth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from fcn_ext import ops, reference

Shape = tuple[int, ...]

# Against the float64 result of the same (rounded) inputs: absolute and relative.
TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.float16: 2e-3,
    torch.bfloat16: 1.6e-2,
}


@dataclass(frozen=True)
class Case:
    """One call of an operator: the shapes of its maps, and how it is called with them."""

    name: str
    shapes: tuple[Shape, ...]
    call: Callable[..., Tensor]  # call(ops or reference, *maps)
    raw: Callable[..., tuple[Any, tuple[Any, ...]]]  # raw(*maps) -> (overload, arguments)

    def __str__(self) -> str:
        return self.name


def maps(case: Case, dtype: torch.dtype, device: torch.device | str = "cpu") -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype)
        for shape in case.shapes
    ]


def contiguous(map: Tensor) -> Tensor:
    return map.contiguous()


def channels_last(map: Tensor) -> Tensor:
    return map.contiguous(memory_format=torch.channels_last)


def window(map: Tensor) -> Tensor:
    """A window of a larger map: rows and columns with gaps between them."""
    n, c, h, w = map.shape
    larger = map.new_full((n + 1, c + 2, h + 3, 2 * w + 1), float("nan"))
    view = larger[1:, 1:-1, 2 : 2 + h, 1 : 1 + 2 * w : 2]
    return view.copy_(map)


def channels_last_window(map: Tensor) -> Tensor:
    n, c, h, w = map.shape
    larger = map.new_full((n, c, h + 2, w + 3), float("nan"))
    larger = larger.contiguous(memory_format=torch.channels_last)
    return larger[:, :, 1 : 1 + h, 2 : 2 + w].copy_(map)


def transposed(map: Tensor) -> Tensor:
    return map.transpose(2, 3).contiguous().transpose(2, 3)


LAYOUTS = [contiguous, channels_last, window, channels_last_window, transposed]


def gradients(module: ModuleType, case: Case, inputs: list[Tensor], grad: Tensor) -> list[Tensor]:
    leaves = [map.detach().clone().requires_grad_() for map in inputs]
    case.call(module, *leaves).backward(grad)
    return [leaf.grad for leaf in leaves if leaf.grad is not None]


def assert_near(actual: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(
        actual.double().cpu(), expected.double().cpu(), rtol=tolerance, atol=tolerance
    )


class MapContract:
    """Subclasses set ``cases`` and ask the rest of their own questions."""

    cases: ClassVar[list[Case]]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "case" in metafunc.fixturenames:
            metafunc.parametrize("case", self.cases, ids=str)

    @pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
    def test_matches_reference(self, case: Case, dtype: torch.dtype, device: torch.device) -> None:
        inputs = maps(case, dtype, device)
        expected = case.call(reference, *(map.double() for map in inputs))
        actual = case.call(ops, *inputs)
        assert actual.dtype == dtype
        assert_near(actual, expected, dtype)

    @pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
    def test_gradient_matches_reference(
        self, case: Case, dtype: torch.dtype, device: torch.device
    ) -> None:
        inputs = maps(case, dtype, device)
        grad = torch.randn_like(case.call(ops, *inputs))
        wide = [map.double() for map in inputs]
        expected = gradients(reference, case, wide, grad.double())
        actual = gradients(ops, case, inputs, grad)
        assert len(actual) == len(expected)
        for a, e in zip(actual, expected, strict=True):
            scale = max(1.0, float(e.abs().max()))
            assert a.dtype == dtype
            assert_near(a / scale, e / scale, dtype)

    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    def test_any_layout(
        self, case: Case, dtype: torch.dtype, layout: Any, device: torch.device
    ) -> None:
        """Whatever the strides, the same numbers; channels_last in, channels_last out."""
        inputs = maps(case, dtype, device)
        expected = case.call(ops, *inputs)
        laid_out = [layout(map) for map in inputs]
        actual = case.call(ops, *laid_out)
        assert_near(actual, expected, dtype)
        if laid_out[0][0, 0].numel() > 1:  # a map of one pixel is in both formats
            last = layout in (channels_last, channels_last_window)
            assert actual.is_contiguous(
                memory_format=torch.channels_last if last else torch.contiguous_format
            )
        grad = torch.randn_like(expected)
        for a, e in zip(
            gradients(ops, case, inputs, layout(grad)),
            gradients(ops, case, inputs, grad),
            strict=True,
        ):
            assert_near(a, e, dtype)

    def test_expanded_gradient(self, case: Case, device: torch.device) -> None:
        """`output.sum().backward()` hands over a gradient whose strides are all zero."""
        inputs = maps(case, torch.float64, device)
        output = case.call(ops, *inputs)
        actual = gradients(ops, case, inputs, output.new_ones(()).expand_as(output))
        expected = gradients(ops, case, inputs, torch.ones_like(output))
        for a, e in zip(actual, expected, strict=True):
            assert_near(a, e, torch.float64)

    def test_gradcheck(self, case: Case, device: torch.device) -> None:
        inputs = [map.requires_grad_() for map in maps(case, torch.float64, device)]

        def call(*given: Tensor) -> Tensor:
            return case.call(ops, *given)

        # The map is linear: one probe of each Jacobian shows all of it.
        assert torch.autograd.gradcheck(call, inputs, fast_mode=True)
        assert torch.autograd.gradgradcheck(call, inputs, fast_mode=True)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
    def test_opcheck(self, case: Case, dtype: torch.dtype, device: torch.device) -> None:
        for layout in (contiguous, channels_last):
            inputs = [layout(map).requires_grad_() for map in maps(case, dtype, device)]
            overload, arguments = case.raw(*inputs)
            torch.library.opcheck(overload, arguments)

    def test_empty_batch(self, case: Case, device: torch.device) -> None:
        inputs = [map[:0].requires_grad_() for map in maps(case, torch.float32, device)]
        output = case.call(ops, *inputs)
        assert output.shape == case.call(reference, *inputs).shape
        output.sum().backward()
        assert all(map.grad is not None and map.grad.shape == map.shape for map in inputs)

    def test_vmap(self, case: Case, device: torch.device) -> None:
        inputs = maps(case, torch.float64, device)
        stacked = [torch.stack([map, 2 * map, -map], dim=1) for map in inputs]

        def call(*given: Tensor) -> Tensor:
            return case.call(ops, *given)

        actual = torch.vmap(call, in_dims=1)(*stacked)
        expected = case.call(ops, *inputs)
        torch.testing.assert_close(actual, torch.stack([expected, 2 * expected, -expected]))

    def test_functional_gradient(self, case: Case, device: torch.device) -> None:
        """torch.func.grad, and grad of grad: the map is linear, so that of its square is two."""
        inputs = maps(case, torch.float64, device)

        def energy(*given: Tensor) -> Tensor:
            return case.call(ops, *given).square().sum()

        def slope(*given: Tensor) -> Tensor:
            return torch.func.grad(energy)(*given).sum()

        expected = gradients(ops, case, inputs, 2 * case.call(ops, *inputs))[0]
        torch.testing.assert_close(torch.func.grad(energy)(*inputs), expected)
        ones = [torch.ones_like(inputs[0]), *(torch.zeros_like(map) for map in inputs[1:])]
        expected = gradients(ops, case, inputs, 2 * case.call(ops, *ones))[0]
        torch.testing.assert_close(torch.func.grad(slope)(*inputs), expected)

    def test_forward_mode(self, case: Case, device: torch.device) -> None:
        """The map is linear: its tangent is the map of the tangents, also of some of them."""
        inputs = maps(case, torch.float64, device)
        tangents = [torch.randn_like(map) for map in inputs]

        def call(*given: Tensor) -> Tensor:
            return case.call(ops, *given)

        value, tangent = torch.func.jvp(call, tuple(inputs), tuple(tangents))
        torch.testing.assert_close(value, call(*inputs))
        torch.testing.assert_close(tangent, call(*tangents))
        for own in range(len(inputs)):
            some = [t if i == own else torch.zeros_like(t) for i, t in enumerate(tangents)]
            with forward_ad.dual_level():
                given = list(inputs)
                given[own] = forward_ad.make_dual(inputs[own], tangents[own])
                dual = forward_ad.unpack_dual(call(*given))
            torch.testing.assert_close(dual.tangent, call(*some))
        assert torch.autograd.gradcheck(
            call,
            [map.requires_grad_() for map in inputs],
            fast_mode=True,
            check_forward_ad=True,
            check_batched_forward_grad=True,
        )

    def test_same_bits_twice(self, case: Case, device: torch.device) -> None:
        inputs = maps(case, torch.float32, device)
        grad = torch.randn_like(case.call(ops, *inputs))
        torch.use_deterministic_algorithms(True)
        try:
            runs = [
                [case.call(ops, *inputs), *gradients(ops, case, inputs, grad)] for _ in range(3)
            ]
        finally:
            torch.use_deterministic_algorithms(False)
        for run in runs[1:]:
            assert all(torch.equal(a, b) for a, b in zip(run, runs[0], strict=True))

    def test_threads_change_no_bit(self, case: Case, threads: None) -> None:
        inputs = [
            map.repeat(3, 1, 1, 1).repeat_interleave(9, dim=1) for map in maps(case, torch.float32)
        ]
        grad = torch.randn_like(case.call(ops, *inputs))
        runs = []
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            runs.append([case.call(ops, *inputs), *gradients(ops, case, inputs, grad)])
        for run in runs[1:]:
            assert all(torch.equal(a, b) for a, b in zip(run, runs[0], strict=True))
