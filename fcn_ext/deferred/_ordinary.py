"""What looks past torch's dispatcher, at memory or at the object, is given the ordinary tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from fcn_ext.deferred._tensor import FUNCTIONS, Deferred, as_ordinary

_METHODS = (
    "__array__",
    "__deepcopy__",
    "__dlpack__",
    "__reduce_ex__",
    "__repr__",
    "_typed_storage",
    "apply_",
    "const_data_ptr",
    "cpu_data_ptr",
    "data_ptr",
    "is_shared",
    "map_",
    "map2_",
    "numpy",
    "share_memory_",
    "storage",
    "tolist",
    "untyped_storage",
)


def _asked(method: Callable[..., Any]) -> Callable[..., Any]:
    def answer(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(self, Deferred):
            return NotImplemented
        full = as_ordinary(self)
        result = method(full, *args, **kwargs)
        return self if result is full else result

    return answer


def _shown(self: Any, **kwargs: Any) -> str:
    """torch's text of the numbers, with the gradient's node of the deferred tensor."""
    full: Tensor = self.recipe.ordinary()
    text = Tensor.__repr__(full, **kwargs)
    if self.grad_fn is not None:
        return f"{text[:-1]}, grad_fn=<{type(self.grad_fn).__name__}>)"
    return f"{text[:-1]}, requires_grad=True)" if self.requires_grad else text


def _formatted(self: Any, format: str) -> str:
    return format_of(as_ordinary(self).detach(), format) if format else repr(self)


format_of = Tensor.__format__

for _name in _METHODS:
    _method = getattr(Tensor, _name, None)
    if _method is not None:
        _answer = _shown if _name == "__repr__" else _asked(_method)
        FUNCTIONS[_method] = _answer
        # Called as methods, they are found before torch's rules for subclasses apply.
        setattr(Deferred, _name, _answer)
Deferred.__format__ = _formatted  # type: ignore[method-assign]
FUNCTIONS[Tensor.__format__] = _formatted
