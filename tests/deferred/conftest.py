from __future__ import annotations

import pytest

from fcn_ext.deferred import _resized_twice


@pytest.fixture(autouse=True)
def as_of_large_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small maps, which are quick to test, are treated as large ones."""
    monkeypatch.setattr(_resized_twice, "SMALL", 0)
