"""Validation on full frames: every process restores and measures its share of them, on its own device.

Nothing waits for a frame's figures: they stay on the device until the last frame is restored. Pictures are read ahead
by the workers of a data loader and encoded by threads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import torch
from basicsr.metrics import calculate_metric
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from macr_plugin.basicsr_compat.signals import leave_signals_to_parent
from macr_plugin.data.pairs import evenly_spaced, picture_key
from macr_plugin.data.picture_files import write_png
from macr_plugin.errors import InputError
from macr_plugin.metrics.metric_table import find_metric
from macr_plugin.visualization import Picture, side_by_side, stack

Options = Mapping[str, Any]

DEFAULT_GPU_WORKERS = 4
WRITER_THREADS = 4
PENDING_PICTURES = 8
FEWER_PICTURES = "free some disk space or save fewer (val.save_img, val.comparison_frames)"


class FrameVersions(NamedTuple):
    """A frame in all its versions, each (1, 3, H, W), uint8 RGB, on any device.

    Attributes:
        blurred: What the camera saw.
        restored: What the network made of it.
        sharp: What it should be.
    """

    blurred: Tensor
    restored: Tensor
    sharp: Tensor


class Measurement(NamedTuple):
    """The figures of a frame.

    Attributes:
        restored: Name of each metric -> its value for the restored frame.
        blurred: The same for the blurred frame.
    """

    restored: dict[str, float]
    blurred: dict[str, float]


class Validator:
    """Restores and measures the frames of data sets.

    Frame number i belongs to process i modulo the number of processes. Each reads its frames with
    ``num_worker_per_gpu`` workers of the data set's options (by default 4 on a GPU and none on a CPU, whose cores are
    busy restoring), which stay from one validation of a training to the next.

    Args:
        opt: BasicSR's options; of ``val`` it reads ``metrics``, ``comparison_frames``, ``suffix`` and ``pbar``.
        restore: Takes what a data loader gives for one frame; returns the frame blurred, restored and, where it has a
            sharp partner, sharp, each (1, 3, H, W), uint8 RGB.
        device: Where ``restore`` works.
    """

    def __init__(
        self,
        opt: Options,
        restore: Callable[[dict[str, Any]], tuple[Tensor, Tensor, Tensor | None]],
        device: torch.device,
    ) -> None:
        self._opt = opt
        self._restore = restore
        self._device = device
        self._loaders: dict[Any, DataLoader[Any]] = {}

    def run(self, dataloader: Any, iteration: int | str, save_pictures: bool) -> list[Measurement]:
        """Restore all frames of a data set; every process has to call this.

        Saves ``<dataset>_comparison_<iteration>.png``, which shows ``val.comparison_frames`` frames.

        Args:
            dataloader: Names the data set and how to collate it; it is not read itself.
            iteration: Iteration, or the name of the test run.
            save_pictures: Whether to save every restored frame.

        Returns:
            The figures of all frames that have a sharp partner, in the data set's order, the same in every process.

        Raises:
            InputError: If a picture cannot be written, or a metric cannot measure a frame.
        """
        dataset = dataloader.dataset
        compared = compared_indices(self._opt["val"].get("comparison_frames"), len(dataset))
        values: dict[int, dict[str, Tensor]] = {}
        shown: dict[int, tuple[str, FrameVersions]] = {}
        with cudnn_benchmark_for_one_size() as prepare, PictureWriter() as writer:
            for index, data in self._read_frames(dataloader):
                prepare(data["gt" if "gt" in data else "lq"].shape)
                blurred, restored, sharp = self._restore(data)
                key = frame_key(data["lq_path"][0], dataset.opt.get("dataroot_lq"))
                if save_pictures:
                    writer.write(restored, self._picture_path(key, dataset.opt["name"], iteration))
                if sharp is None:
                    continue
                frame = FrameVersions(blurred, restored, sharp)
                values[index] = measure(key, frame, self._opt["val"].get("metrics") or {})
                if index in compared:
                    shown[index] = key, frame
        measured = read_values(values)
        if compared:
            rows = {index: comparison(key, frame, measured[index]) for index, (key, frame) in shown.items()}
            self._save_comparison(rows, f"{dataset.opt['name']}_comparison_{iteration}.png")
        return self._in_order(self._from_all_processes(measured))

    def _read_frames(self, dataloader: Any) -> Iterator[tuple[int, dict[str, Any]]]:
        """Number and content of each frame of this process."""
        indices = share(len(dataloader.dataset), self._opt["rank"], self._opt["world_size"])
        hidden = self._opt["rank"] != 0 or not self._opt["val"].get("pbar", False)
        return zip(indices, tqdm(self._loader(dataloader, indices), unit="frame", disable=hidden), strict=True)

    def _loader(self, dataloader: Any, indices: range) -> DataLoader[Any]:
        dataset = dataloader.dataset
        if dataset not in self._loaders:
            num_workers = dataset.opt.get("num_worker_per_gpu")
            if num_workers is None:
                num_workers = DEFAULT_GPU_WORKERS if self._device.type == "cuda" else 0
            num_workers = min(num_workers, len(indices))
            self._loaders[dataset] = DataLoader(
                dataset,
                sampler=indices,
                num_workers=num_workers,
                collate_fn=dataloader.collate_fn,
                pin_memory=self._device.type == "cuda",
                persistent_workers=num_workers > 0 and self._opt["is_train"],
                worker_init_fn=leave_signals_to_parent,
                # The random numbers of the training must not depend on how often it is validated.
                generator=torch.Generator(),
            )
        return self._loaders[dataset]

    def _picture_path(self, key: str, dataset_name: str, iteration: int | str) -> Path:
        """Where a restored picture is saved."""
        root, frame = Path(self._opt["path"]["visualization"]), Path(key).name
        if self._opt["is_train"]:
            return root / key / f"{frame}_{iteration}.png"
        suffix = self._opt["val"].get("suffix") or self._opt["name"]
        return root / dataset_name / Path(key).parent / f"{frame}_{suffix}.png"

    def _save_comparison(self, rows: dict[int, Picture], name: str) -> None:
        """Let the first process put the rows of all below each other."""
        if self._opt["dist"]:
            gathered: list[Any] | None = [None] * self._opt["world_size"] if self._opt["rank"] == 0 else None
            torch.distributed.gather_object(rows, gathered, dst=0)
            rows = join_shares(gathered or [])
        if rows:
            write_png(stack(self._in_order(rows)), Path(self._opt["path"]["visualization"], name), FEWER_PICTURES)

    def _from_all_processes(self, mine: dict[int, Measurement]) -> dict[int, Measurement]:
        if not self._opt["dist"]:
            return mine
        # Frame by frame rather than a sum a process, so that the mean is the one of a single process to the last bit.
        gathered: list[Any] = [None] * self._opt["world_size"]
        torch.distributed.all_gather_object(gathered, mine)
        return join_shares(gathered)

    @staticmethod
    def _in_order(by_index: Mapping[int, Any]) -> list[Any]:
        return [by_index[index] for index in sorted(by_index)]


class PictureWriter:
    """Encodes and writes pictures in threads; all are on the disk when the ``with`` block has ended.

    Raises:
        InputError: From ``write`` or the end of the block, if a picture could not be written.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(WRITER_THREADS)
        self._pending: deque[Future[None]] = deque()

    def __enter__(self) -> PictureWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._threads.shutdown(cancel_futures=kind is not None)
        while self._pending and kind is None:
            self._pending.popleft().result()

    def write(self, picture: Tensor, path: Path) -> None:
        """Hand over a picture; waits while ``PENDING_PICTURES`` are on their way.

        Args:
            picture: Shape (1, 3, H, W), uint8 RGB; must not be changed any more.
            path: The PNG file.

        Raises:
            InputError: If an earlier picture could not be written.
        """
        while len(self._pending) >= PENDING_PICTURES:
            self._pending.popleft().result()
        self._pending.append(self._threads.submit(lambda: write_png(to_picture(picture), path, FEWER_PICTURES)))


def to_picture(tensor: Tensor) -> Picture:
    """Turn a (1, 3, H, W) uint8 RGB tensor on any device into an (H, W, 3) BGR array."""
    return tensor[0].flip(0).permute(1, 2, 0).contiguous().cpu().numpy()


def measure(key: str, frame: FrameVersions, metrics: Mapping[str, Options]) -> dict[str, Tensor]:
    """Measure the restored and the blurred version of a frame against the sharp one.

    Args:
        key: Name of the frame, for messages.
        frame: Its versions, (1, 3, H, W), uint8 RGB.
        metrics: ``val.metrics`` of the options. Those of :mod:`macr_plugin.metrics.metric_table` are computed on the
            frame's device, all others by BasicSR on the CPU.

    Returns:
        Name of each metric -> its value for the restored and for the blurred frame, shape (2,), float64.

    Raises:
        InputError: If the versions of the frame differ in size or are too small.
    """
    sizes = [f"{version.shape[-1]}x{version.shape[-2]}" for version in frame]
    if len(set(sizes)) > 1:
        raise InputError(
            f"{key} is {sizes[0]} blurred, {sizes[1]} restored and {sizes[2]} sharp: a frame has to keep its size"
        )
    return {name: _measure_one(frame, options) for name, options in metrics.items()}


def _measure_one(frame: FrameVersions, options: Options) -> Tensor:
    blurred, restored, sharp = frame
    metric = find_metric(options["type"])
    if metric is not None:
        protocol = {key: options[key] for key in ("crop_border", "test_y_channel") if key in options}
        return metric.measure(torch.cat((restored, blurred)), sharp, **protocol)
    pictures = [{"img": to_picture(version), "img2": to_picture(sharp)} for version in (restored, blurred)]
    return torch.tensor([calculate_metric(pair, options) for pair in pictures], dtype=torch.float64)


def read_values(values: Mapping[int, Mapping[str, Tensor]]) -> dict[int, Measurement]:
    """Fetch the figures of all frames from the device, one transfer a metric.

    Args:
        values: Number of each frame -> what :func:`measure` returned: shape (2,) for each metric, of any value.

    Returns:
        Number of each frame -> its figures.
    """
    names = next(iter(values.values()), {})
    columns = {name: torch.stack([figures[name] for figures in values.values()]).tolist() for name in names}
    return {
        index: Measurement(*({name: column[row][part] for name, column in columns.items()} for part in range(2)))
        for row, index in enumerate(values)
    }


def comparison(key: str, frame: FrameVersions, measured: Measurement) -> Picture:
    """Show the versions of a frame side by side, with the first metric above them.

    Args:
        key: Name of the frame.
        frame: Its versions, (1, 3, H, W), uint8 RGB.
        measured: The metrics of this frame.

    Returns:
        Picture (H', W', 3), uint8 BGR.
    """
    captions = (f"{key}: blurred{caption(measured.blurred)}", f"restored{caption(measured.restored)}", "sharp")
    return side_by_side({text: to_picture(version) for text, version in zip(captions, frame, strict=True)})


def caption(values: Mapping[str, float]) -> str:
    """Name the first metric of a picture and its value, with a comma in front; empty without metrics."""
    return next((f", {name} {value:.2f}" for name, value in values.items()), "")


def compared_indices(num_compared: int | None, num_frames: int) -> set[int]:
    """Choose the frames that the side-by-side picture shows, evenly spaced.

    Args:
        num_compared: ``val.comparison_frames`` of the options.
        num_frames: Number of frames in the data set.
    """
    return set(evenly_spaced(num_frames, num_compared or 0))


def share(num_frames: int, rank: int, world_size: int) -> range:
    """Return the numbers of the frames that a process restores; the shares differ by at most one frame."""
    return range(rank, num_frames, world_size)


def join_shares(parts: Sequence[Mapping[int, Any]]) -> dict[int, Any]:
    """Put together what the processes have for their frames."""
    return {index: value for part in parts for index, value in part.items()}


def frame_key(path: str, dataroot: str | None) -> str:
    """Name a frame ``scene/frame``, unique in its data set.

    Args:
        path: The key of a frame, which is such a name already, or the path of a picture file.
        dataroot: Folder that the picture files are relative to.

    Returns:
        A relative path without ``..``: joined to a folder, it stays in there.
    """
    picture = Path(path)
    if dataroot is not None and picture.is_relative_to(dataroot):
        picture = Path(picture_key(picture.relative_to(dataroot)))
    elif dataroot is None or picture.is_absolute():
        picture = Path(picture_key(picture.relative_to(picture.anchor)))
    return "/".join(part for part in picture.parts if part != "..")


def share_buffers(net: nn.Module) -> None:
    """Give every process the first one's buffers, such as running means, which training leaves different.

    Args:
        net: The network that all processes are about to validate.
    """
    for buffer in net.buffers():
        torch.distributed.broadcast(buffer, src=0)


@contextmanager
def cudnn_benchmark_for_one_size() -> Iterator[Callable[[Sequence[int]], None]]:
    """Keep cuDNN from searching the fastest algorithm again for every size of frame.

    Yields:
        To be called with the shape of each frame: leaves the search as it was set for the first shape and those equal
        to it, and turns it off for others. The setting is restored at the end.
    """
    chosen = torch.backends.cudnn.benchmark
    first: list[Sequence[int]] = []

    def prepare(shape: Sequence[int]) -> None:
        first[:] = first or [shape]
        torch.backends.cudnn.benchmark = chosen and shape == first[0]

    try:
        yield prepare
    finally:
        torch.backends.cudnn.benchmark = chosen
