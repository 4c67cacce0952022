"""Every image of a step is taken by one process, and none twice."""

from __future__ import annotations

import pytest

from fcn_train.share import shared_out


@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 64])
@pytest.mark.parametrize(("batch", "accumulate"), [(1, 1), (1, 20), (20, 1), (3, 2), (7, 5)])
def test_images_are_shared_out(batch: int, accumulate: int, size: int, within: bool) -> None:
    shares = [shared_out(batch, accumulate, size, rank, within=within) for rank in range(size)]
    for number in range(accumulate):
        parts = [share[number] for share in shares]
        assert all(part.number == number and part.size == batch for part in parts)
        images = [index for part in parts for index in range(part.start, part.stop)]
        assert images == list(range(batch))
    loads = [sum(map(len, share)) for share in shares]
    assert max(loads) - min(loads) <= (accumulate if within else 1)
    assert loads[0] == max(loads)  # the first process has images, whatever others have


def test_one_process_takes_all() -> None:
    parts = shared_out(4, 3, size=1, rank=0)
    assert [(part.start, part.stop) for part in parts] == [(0, 4)] * 3
