"""The option file of a benchmark: what is compared, on which data, and how it is measured."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, GetCoreSchemaHandler, Strict, TypeAdapter
from pydantic_core import CoreSchema, core_schema

from macr_plugin.archs.tiling import Tile
from macr_plugin.benchmark.results import Published
from macr_plugin.errors import InputError
from macr_plugin.options.blocks import Count, Finite, FolderName, NotNegative, Text
from macr_plugin.options.check import check_positions, find_problems, problems_of_network
from macr_plugin.options.datasets import DATASETS
from macr_plugin.options.file import read_yaml
from macr_plugin.options.precision import Precision
from macr_plugin.options.problems import Place, Problem, unknown, validate

#: ``weights`` of a network that needs no file: its options name a checkpoint, or it has nothing to learn.
INCLUDED = "included"
DATASET = "DeblurPairDataset"
MODEL = "MultiScaleDeblurModel"
#: Unknown keys are mistakes; pydantic reads it from the class.
FORBID = {"extra": "forbid"}

Bool = Annotated[bool, Strict()]
Mapped = dict[str, Any]
Mode = Literal["eager", "compiled", "cuda_graph", "optimized"]
MODES: tuple[str, ...] = get_args(Mode)


def _size(value: Any) -> Any:
    if isinstance(value, (list, tuple)) and len(value) != 2:
        raise ValueError("[height, width], such as [720, 1280]")
    return value


Size = Annotated[tuple[Count, Count], BeforeValidator(_size)]


@dataclasses.dataclass(frozen=True)
class TileOptions:
    """Block ``tile`` of an entry."""

    __pydantic_config__ = FORBID

    size: Annotated[Count, Field(description="largest height and width of a tile in pixels")]
    overlap: Annotated[NotNegative, Field(description="pixels that neighbours share")] = 32
    margin: Annotated[NotNegative, Field(description="pixels along inner edges that are thrown away")] = 0

    def __post_init__(self) -> None:
        """Refuse a margin that leaves gaps between tiles."""
        if 2 * self.margin > self.overlap or self.overlap >= self.size:
            raise ValueError("an overlap smaller than size, and a margin of at most half of it")


@dataclasses.dataclass(frozen=True)
class PublishedOptions:
    """Block ``published`` of an entry: a paper's own figures."""

    __pydantic_config__ = FORBID

    source: Annotated[Text, Field(description="paper and table")]
    psnr: Annotated[Finite | None, Strict(), Field(description="in dB")] = None
    ssim: Annotated[Finite | None, Strict(), Field(description="by the paper's own definition")] = None


@dataclasses.dataclass(frozen=True)
class DescribedBy:
    """A type whose values a file gives as another description has them, field for field.

    Attributes:
        description: The dataclass that is described.
    """

    description: type

    def __get_pydantic_core_schema__(self, source: type, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Read the description, then make the type of it."""
        return core_schema.no_info_after_validator_function(
            lambda options: source(**dataclasses.asdict(options)), handler.generate_schema(self.description)
        )


@dataclasses.dataclass(frozen=True)
class Entry:
    """One row of the benchmark."""

    __pydantic_config__ = FORBID

    label: Annotated[Text, Field(description="unique name")]
    network: Annotated[Mapped | None, Field(description="type and arguments; empty for published figures alone")] = None
    weights: Annotated[
        Text | None,
        Field(
            description="a file, or the name of shipped weights; included if the network brings its own; empty to "
            "measure its cost alone, or to train it here"
        ),
    ] = None
    param_key: Annotated[
        Text | None, Field(description="which weights of the file; by default params_ema, params or state_dict")
    ] = None
    precision: Annotated[Precision, Field(description="of the quality measurement")] = "fp32"
    tile: Annotated[
        Annotated[Tile, DescribedBy(TileOptions)] | None,
        Field(description="cut full frames into tiles; by default they are restored whole"),
    ] = None
    size_multiple: Annotated[Count, Field(description="what height and width are padded to")] = 1
    tlc: Annotated[Bool, Field(description="pooling was made local for testing (TLC): for the protocol's name")] = False
    model_type: Annotated[Text, Field(description="model class that trains it")] = MODEL
    datasets: Annotated[
        Mapped,
        Field(description="changes to training.datasets, such as train with another type, which replaces that block"),
    ] = dataclasses.field(default_factory=dict)
    train: Annotated[Mapped, Field(description="changes to training.train")] = dataclasses.field(default_factory=dict)
    published: Annotated[
        Annotated[Published, DescribedBy(PublishedOptions)] | None, Field(description="a paper's own figures")
    ] = None


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Block ``protocol``: how a restored frame is compared with the sharp one."""

    __pydantic_config__ = FORBID

    crop_border: Annotated[NotNegative, Field(description="pixels cut off at each edge")] = 0
    test_y_channel: Annotated[Bool, Field(description="compare luma only")] = False
    rounding: Annotated[
        Literal["uint8", "float"], Field(description="uint8 rounds to what a file can hold, float clips to [0, 1]")
    ] = "uint8"


def _not_empty(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if not values:
        raise ValueError("a list of at least one")
    return values


@dataclasses.dataclass(frozen=True)
class Cost:
    """Block ``cost``: what is timed."""

    __pydantic_config__ = FORBID

    sizes: Annotated[tuple[Size, ...], Field(description="[height, width] of each, in pixels")] = ()
    batch: Annotated[Count, Field(description="pictures at once")] = 1
    devices: Annotated[
        tuple[Literal["auto", "cuda", "cpu"], ...],
        AfterValidator(_not_empty),
        Field(description="the first one also trains and measures quality"),
    ] = ("auto",)
    precisions: Annotated[tuple[Precision, ...], AfterValidator(_not_empty), Field(description="of the passes")] = (
        "fp32",
    )
    modes: Annotated[
        tuple[Mode, ...],
        AfterValidator(_not_empty),
        Field(description="how a pass runs"),
    ] = ("eager",)
    channels_last: Annotated[Bool, Field(description="memory layout of weights and pictures")] = False
    warm_up: Annotated[NotNegative, Field(description="passes before the measured ones")] = 5
    runs: Annotated[Count, Field(description="measured passes")] = 30


@dataclasses.dataclass(frozen=True)
class TrainingBase:
    """Block ``training``: options that the training of every entry shares, as in an option file of BasicSR."""

    __pydantic_config__ = FORBID

    datasets: Annotated[Mapped, Field(description="train, the options of the training data")]
    train: Annotated[
        Mapped,
        Field(
            description="loss, optimizer and so on; total_iter comes from the command line, and a cosine schedule "
            "whose periods are empty lasts the whole training"
        ),
    ]


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Top of the option file of a benchmark."""

    __pydantic_config__ = FORBID

    name: Annotated[FolderName, Field(description="folder below results/; by default the file's name")] = "benchmark"
    entries: Annotated[
        tuple[Entry, ...], Field(description="what is compared; differences are taken to the first")
    ] = ()
    title: Annotated[Text, Field(description="head of the report; by default the name")] = "benchmark"
    dataset: Annotated[
        Mapped | None,
        Field(description="options of DeblurPairDataset, with the name in the report; empty to measure cost alone"),
    ] = None
    protocol: Annotated[Protocol, Field(description="how quality is measured")] = Protocol()
    cost: Annotated[Cost, Field(description="what is timed")] = Cost()
    comparison_frames: Annotated[NotNegative, Field(description="frames, evenly spaced, that the report shows")] = 4
    training: Annotated[TrainingBase | None, Field(description="what all trainings share; empty for none")] = None


def read_benchmark(path: Path) -> Benchmark:
    """Read and check the option file of a benchmark.

    Own networks have to be registered before.

    Args:
        path: The YAML file.

    Returns:
        The options.

    Raises:
        InputErrors: Every mistake, each with its file, line and column.
        InputError: If the file cannot be read.
    """
    content = read_yaml(path)
    if not isinstance(content, dict) or not content.get("entries"):
        raise InputError(f"{path} has no entries: start from options/benchmark_demo.yml")
    name = content.get("name", path.stem)
    title = name if isinstance(name, str) and name.strip() else path.stem
    content = {"name": name, "title": title, **_without_empty(content)}
    if isinstance(content["entries"], list):
        content["entries"] = [_without_empty(entry) for entry in content["entries"]]
    check_positions(path, find_benchmark_problems(content))
    return TypeAdapter(Benchmark).validate_python(content)


def find_benchmark_problems(content: Mapped) -> Iterator[Problem]:
    """Every mistake in the options: of types and names first, and if there is none of those, of their meaning.

    Args:
        content: What the file says.
    """
    found = [*validate(Benchmark, content, ()), *_problems_of_dataset(content.get("dataset"))]
    for number, entry in enumerate(content["entries"] if isinstance(content["entries"], list) else ()):
        if isinstance(entry, dict) and isinstance(entry.get("network"), dict):
            found += problems_of_network(entry["network"], ("entries", number, "network"))
    yield from found
    if all(problem.is_spelling for problem in found):
        yield from _broken_rules(content)
        yield from dict.fromkeys(_problems_of_trainings(content))


def _problems_of_dataset(dataset: Any) -> Iterator[Problem]:
    if not isinstance(dataset, dict):
        return
    if dataset.get("type", DATASET) != DATASET:
        yield Problem(
            ("dataset", "type"), f"is {dataset['type']!r}: quality is measured on pairs, remove it or set {DATASET}"
        )
    yield from validate(DATASETS[DATASET], dataset, ("dataset",))


def _broken_rules(content: Mapped) -> Iterator[Problem]:
    protocol = content.get("protocol", {})
    if protocol.get("rounding") == "float" and protocol.get("test_y_channel"):
        yield Problem(("protocol", "test_y_channel"), "is defined on rounded pictures: set rounding: uint8")
    labels = [entry["label"] for entry in content["entries"]]
    for number, entry in enumerate(content["entries"]):
        place: Place = ("entries", number)
        if entry["label"] in labels[:number]:
            yield Problem(
                (*place, "label"), f"is {entry['label']!r}, which is there twice: give each a name of its own"
            )
        if entry.get("network") is None and entry.get("published") is None:
            yield Problem((*place, "network"), "is missing: an entry has a network, or published figures")
        for phase in entry.get("datasets", {}):
            if phase != "train":
                yield Problem((*place, "datasets", phase), unknown(phase, ("train",), "key"), is_spelling=True)
    for phase in content.get("training", {}).get("datasets", {}):
        if phase != "train":
            yield Problem(("training", "datasets", phase), unknown(phase, ("train",), "key"), is_spelling=True)


def _problems_of_trainings(content: Mapped) -> Iterator[Problem]:
    """Mistakes in the options of every entry's training, where the file has them: shared ones, or the entry's own."""
    training = content.get("training")
    if training is None:
        return
    for number, entry in enumerate(content["entries"]):
        if entry.get("network") is None:
            continue
        own = {key: entry.get(key, {}) for key in ("datasets", "train")}
        for problem in find_problems(_one_step(entry, merge_options(training, own))):
            block, *rest = problem.place
            if block == "model_type":
                yield Problem(("entries", number, *problem.place), problem.message)
            elif block in own:
                is_own = _holds(own[str(block)], rest)
                yield problem._replace(place=(*(("entries", number) if is_own else ("training",)), *problem.place))


def _one_step(entry: Mapped, training: Mapped) -> Mapped:
    """Options of the shortest training of an entry."""
    dataset = {"type": DATASET, **training["datasets"].get("train", {})}
    train = {**training["train"], "total_iter": 1}
    scheduler = train.get("scheduler")
    if isinstance(scheduler, dict) and scheduler.get("periods", ()) is None:
        train["scheduler"] = {**scheduler, "periods": [1]}
    return {
        "name": "check",
        "model_type": entry.get("model_type", MODEL),
        "datasets": {"train": dataset},
        "network_g": entry["network"],
        "train": train,
        "logger": {"print_freq": 1, "save_checkpoint_freq": 1},
    }


def _holds(block: Any, place: list[str | int]) -> bool:
    """Whether a block has the key of a place, or in a block with a type of its own, could have it."""
    for part in place:
        if not isinstance(block, dict) or part not in block:
            return isinstance(block, dict) and "type" in block
        block = block[part]
    return True


def _without_empty(block: Any) -> Any:
    """A block without the keys whose values are empty: what they mean has a default."""
    return {key: value for key, value in block.items() if value is not None} if isinstance(block, dict) else block


def merge_options(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Change some options, block by block.

    Args:
        base: Left unchanged.
        changes: Values replace values; a block is merged into a block, unless it names another ``type``.

    Returns:
        The changed options.
    """
    merged = copy.deepcopy(dict(base))
    for key, value in changes.items():
        old = merged.get(key)
        if isinstance(value, dict) and isinstance(old, dict) and value.get("type") in (None, old.get("type")):
            merged[key] = merge_options(old, value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def file_name(label: str) -> str:
    """Turn a label into a part of a file name."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", label).strip("._") or "entry"
