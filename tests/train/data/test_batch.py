from __future__ import annotations

import torch

from fcn_train.data import IGNORE_INDEX, IMAGENET, collate, to_tensors

from .marked import marked


def test_collate_stacks_equal_sizes() -> None:
    tensors = [to_tensors(marked(3, 4), IMAGENET) for _ in range(2)]
    batch = collate(tensors, ["a", "b"])
    assert batch.images.shape == (2, 3, 3, 4)
    assert batch.targets.dtype == torch.uint8
    assert batch.ids == ("a", "b")
    assert batch.sizes == ((3, 4), (3, 4))


def test_collate_pads_to_the_largest_with_void() -> None:
    examples = [marked(3, 7), marked(5, 4)]
    batch = collate([to_tensors(example, IMAGENET) for example in examples], ["a", "b"])
    assert batch.images.shape == (2, 3, 5, 7)
    assert batch.targets.shape == (2, 5, 7)
    assert batch.targets.dtype == torch.uint8
    for index, (example, (height, width)) in enumerate(zip(examples, batch.sizes, strict=True)):
        image, label = to_tensors(example, IMAGENET)
        assert torch.equal(batch.images[index, :, :height, :width], image)
        assert torch.equal(batch.targets[index, :height, :width], label)
        assert (batch.targets[index] != IGNORE_INDEX).sum() == height * width
        assert batch.images[index].count_nonzero() <= 3 * height * width
