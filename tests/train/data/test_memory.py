from __future__ import annotations

from pathlib import Path

import numpy as np

from fcn_train.data import MemoryDataset, open_dataset


def test_memory_holds_what_the_files_hold(sample_root: Path) -> None:
    files = open_dataset("sample", sample_root, "val")
    calls: list[tuple[int, int]] = []
    memory = MemoryDataset(files, lambda done, total: calls.append((done, total)))
    assert calls[-1] == (10, 10)
    assert (memory.ids, memory.class_names, memory.name) == (
        files.ids,
        files.class_names,
        files.name,
    )
    for index in range(len(files)):
        assert np.array_equal(memory[index].image, files[index].image)
        assert np.array_equal(memory[index].label, files[index].label)
        assert memory.image_path(index) == files.image_path(index)
