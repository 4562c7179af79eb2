"""The option file of a benchmark: what is compared, on which data, and how it is measured."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from macr_plugin.archs.tiling import Tile
from macr_plugin.benchmark.results import Published
from macr_plugin.errors import InputError
from macr_plugin.options.blocks import TrainOptions
from macr_plugin.options.check import check_keys, check_network
from macr_plugin.options.datasets import DATASETS
from macr_plugin.options.file import read_yaml

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
MODES = ("eager", "compiled", "cuda_graph", "optimized")
DEVICES = ("auto", "cuda", "cpu")
#: ``weights`` of a network that needs no file: its options name a checkpoint, or it has nothing to learn.
INCLUDED = "included"
DATASET = "DeblurPairDataset"
MODEL = "MultiScaleDeblurModel"
#: What has no default in a training.
NEEDED_TO_TRAIN = {
    "training.datasets.train": ("gt_size", "batch_size_per_gpu", "num_worker_per_gpu"),
    "training.train": ("optim_g", "scheduler", "pixel_opt"),
}

Record = TypeVar("Record")


@dataclasses.dataclass(frozen=True)
class Entry:
    """One row of the benchmark.

    Attributes:
        label: Unique name.
        network: ``type``, any name in BasicSR's ``ARCH_REGISTRY``, and its options; none for published figures alone.
        weights: Path of a file, or the name of shipped weights; ``included`` if the network brings its own; none to
            measure its cost only, or to train it here.
        param_key: Which weights of the file; by default ``params_ema``, ``params`` or ``state_dict``, as it has them.
        precision: ``fp32``, ``tf32``, ``bf16`` or ``fp16``, of the quality measurement.
        tile: Cut full frames into tiles; by default they are restored whole.
        size_multiple: What height and width are padded to, for a network that cannot take any size.
        tlc: The network converts its global pooling to a local one for testing (TLC); named in the protocol.
        model_type: Model class that trains it.
        datasets: Changes to ``training.datasets`` for this entry, such as ``train`` with another ``type``, which
            replaces that block as a whole.
        train: Changes to ``training.train`` for this entry, such as an optimizer of its own.
        published: ``psnr``, ``ssim`` and ``source`` of a paper's own figures.
    """

    label: str
    network: dict[str, Any] | None = None
    weights: str | None = None
    param_key: str | None = None
    precision: str = "fp32"
    tile: Tile | None = None
    size_multiple: int = 1
    tlc: bool = False
    model_type: str = MODEL
    datasets: dict[str, Any] = dataclasses.field(default_factory=dict)
    train: dict[str, Any] = dataclasses.field(default_factory=dict)
    published: Published | None = None


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How a restored frame is compared with the sharp one.

    Attributes:
        crop_border: Pixels cut off at each edge.
        test_y_channel: Compare luma only.
        rounding: ``uint8`` rounds to what a picture file can hold, ``float`` only clips to [0, 1].
    """

    crop_border: int = 0
    test_y_channel: bool = False
    rounding: str = "uint8"


@dataclasses.dataclass(frozen=True)
class Cost:
    """What is timed.

    Attributes:
        sizes: Height and width of each size, in pixels.
        batch: Pictures at once.
        devices: ``auto``, ``cuda`` or ``cpu``.
        precisions: Of ``fp32``, ``tf32``, ``bf16`` and ``fp16``.
        modes: Of ``eager``, ``compiled``, ``cuda_graph`` and ``optimized``.
        channels_last: Lay weights and pictures out channels last.
        warm_up: Passes before the measured ones.
        runs: Measured passes.
    """

    sizes: tuple[tuple[int, int], ...] = ()
    batch: int = 1
    devices: tuple[str, ...] = ("auto",)
    precisions: tuple[str, ...] = ("fp32",)
    modes: tuple[str, ...] = ("eager",)
    channels_last: bool = False
    warm_up: int = 5
    runs: int = 30


@dataclasses.dataclass(frozen=True)
class TrainingBase:
    """Options that the training of every entry shares, as in an option file of BasicSR.

    Attributes:
        datasets: ``train``, the options of the training data.
        train: Loss, optimizer and so on; ``total_iter`` comes from the command line. A cosine schedule whose
            ``periods`` are empty lasts the whole training.
    """

    datasets: dict[str, Any]
    train: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """A whole option file.

    Attributes:
        name: Folder below ``results/``.
        entries: What is compared; differences are taken to the first.
        title: Head of the report.
        dataset: Options of ``DeblurPairDataset``, and the ``name`` of the data in the report; none to measure
            cost only.
        protocol: How quality is measured.
        cost: What is timed.
        comparison_frames: Of how many frames, evenly spaced, the restored pictures are shown.
        training: Options that all trainings share; none if nothing can be trained.
    """

    name: str
    entries: tuple[Entry, ...]
    title: str
    dataset: dict[str, Any] | None = None
    protocol: Protocol = Protocol()
    cost: Cost = Cost()
    comparison_frames: int = 4
    training: TrainingBase | None = None


def read_benchmark(path: Path) -> Benchmark:
    """Read and check the option file of a benchmark.

    Own networks have to be registered before.

    Args:
        path: The YAML file.

    Returns:
        The options.

    Raises:
        InputError: If the file cannot be read, a key is unknown or missing, or a value is none of the possible ones.
    """
    content = read_yaml(path)
    if not isinstance(content, dict) or not content.get("entries"):
        raise InputError(f"{path} has no entries: start from options/benchmark_demo.yml")
    content = {"name": path.stem, **content}
    content.setdefault("title", content["name"])
    entries = tuple(
        _read_entry(_mapping(entry, f"entries[{number}]"), f"entries[{number}].")
        for number, entry in enumerate(content.pop("entries"))
    )
    _check_labels([entry.label for entry in entries])
    blocks = {
        "protocol": _read_protocol(_mapping(content.pop("protocol", None) or {}, "protocol")),
        "cost": _read_cost(_mapping(content.pop("cost", None) or {}, "cost")),
        "training": _read_training(content.pop("training", None)),
        "dataset": _read_dataset(content.pop("dataset", None)),
    }
    return _record(Benchmark, {**content, **blocks, "entries": entries}, "")


def _read_entry(block: dict[str, Any], key: str) -> Entry:
    block = dict(block)
    if block.get("tile") is not None:
        block["tile"] = _record(Tile, _mapping(block["tile"], f"{key}tile"), f"{key}tile.")
    if block.get("published") is not None:
        figures = _mapping(block["published"], f"{key}published")
        block["published"] = _record(Published, {"psnr": None, "ssim": None, **figures}, f"{key}published.")
    for name in ("model_type", "datasets", "train"):
        if block.get(name) is None:
            block.pop(name, None)
    entry = _record(Entry, block, key)
    if entry.network is not None:
        check_network(_mapping(entry.network, f"{key}network"), f"{key}network")
    elif entry.published is None:
        raise InputError(f"{key}network is missing: an entry has a network, or published figures")
    _check_choice(entry.precision, PRECISIONS, f"{key}precision")
    check_keys(_mapping(entry.datasets, f"{key}datasets"), ("train",), f"{key}datasets.")
    check_keys(entry.train, TrainOptions.model_fields, f"{key}train.")
    return entry


def _read_protocol(block: dict[str, Any]) -> Protocol:
    protocol = _record(Protocol, block, "protocol.")
    _check_choice(protocol.rounding, ("uint8", "float"), "protocol.rounding")
    if protocol.rounding == "float" and protocol.test_y_channel:
        raise InputError("protocol.test_y_channel is defined on rounded pictures: set rounding: uint8")
    return protocol


def _read_cost(block: dict[str, Any]) -> Cost:
    cost = _record(Cost, block, "cost.")
    for name, known in (("devices", DEVICES), ("precisions", PRECISIONS), ("modes", MODES)):
        for value in getattr(cost, name):
            _check_choice(value, known, f"cost.{name}")
    for name in ("batch", "runs"):
        if not isinstance(getattr(cost, name), int) or getattr(cost, name) < 1:
            raise InputError(f"cost.{name} is {getattr(cost, name)!r}: use a whole number from 1 up")
    if any(not isinstance(size, (list, tuple)) or len(size) != 2 for size in cost.sizes):
        raise InputError("cost.sizes: write each size as [height, width], such as [[256, 256], [720, 1280]]")
    return dataclasses.replace(
        cost,
        sizes=tuple((int(height), int(width)) for height, width in cost.sizes),
        devices=tuple(cost.devices),
        precisions=tuple(cost.precisions),
        modes=tuple(cost.modes),
    )


def _read_training(block: Any) -> TrainingBase | None:
    if block is None:
        return None
    training = _record(TrainingBase, _mapping(block, "training"), "training.")
    check_keys(training.datasets, ("train",), "training.datasets.")
    dataset = _mapping(training.datasets.get("train"), "training.datasets.train")
    described = DATASETS.get(dataset.get("type", DATASET))
    if described is not None:
        check_keys(dataset, described.model_fields, "training.datasets.train.")
    check_keys(training.train, TrainOptions.model_fields, "training.train.")
    for block, key in ((dataset, "training.datasets.train"), (training.train, "training.train")):
        for name in NEEDED_TO_TRAIN[key]:
            if block.get(name) is None:
                raise InputError(f"{key}.{name} is missing: see options/benchmark_demo.yml for its meaning")
    return training


def _read_dataset(block: Any) -> dict[str, Any] | None:
    if block is None:
        return None
    check_keys(_mapping(block, "dataset"), DATASETS[DATASET].model_fields, "dataset.")
    if block.get("type", DATASET) != DATASET:
        raise InputError(f"dataset.type is {block['type']}: quality is measured on pairs, remove it or set {DATASET}")
    return {"name": "test", **block}


def _record(kind: type[Record], block: Mapping[str, Any], prefix: str) -> Record:
    """Make a record of a block, whose keys are the record's attributes."""
    attributes = dataclasses.fields(kind)  # type: ignore[arg-type]
    check_keys(block, [attribute.name for attribute in attributes], prefix)
    for attribute in attributes:
        required = attribute.default is dataclasses.MISSING and attribute.default_factory is dataclasses.MISSING
        if required and attribute.name not in block:
            raise InputError(f"{prefix}{attribute.name} is missing: see options/benchmark_demo.yml for its meaning")
    return kind(**block)


def _mapping(value: Any, key: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{key} is {value!r}: write keys and values below it")
    return value


def _check_choice(value: Any, known: tuple[str, ...], key: str) -> None:
    if value not in known:
        raise InputError(f"{key} is {value!r}: choose {', '.join(known[:-1])} or {known[-1]}")


def _check_labels(labels: list[str]) -> None:
    for label in labels:
        if not isinstance(label, str) or not label.strip():
            raise InputError(f"entries: the label {label!r} is no text: give every entry a name")
        if labels.count(label) > 1:
            raise InputError(f"entries: the label {label!r} is there twice: give every entry a name of its own")


def file_name(label: str) -> str:
    """Turn a label into a part of a file name."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", label).strip("._") or "entry"
