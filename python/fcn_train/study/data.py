"""The data of studies."""

from __future__ import annotations

from fcn_train.data import SegmentationDataset
from fcn_train.data.opening import open_split
from fcn_train.data_options import ReadingOptions
from fcn_train.errors import UsageError


def open_one_set(options: ReadingOptions, split: str) -> SegmentationDataset:
    """`open_split`, of data with one set of labels.

    Raises:
        UsageError: there are several; or as `open_split` does.
    """
    dataset = open_split(options, split)
    if len(dataset.label_sets) > 1:
        raise UsageError(
            "a study is of one set of labels: give one folder, not --data.label-folder "
            f"{options.label_folder}"
        )
    return dataset
