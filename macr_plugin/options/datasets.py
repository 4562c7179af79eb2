"""Description of the options of the plugin's datasets, below ``datasets.train``, ``datasets.val`` and so on."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from macr_plugin.options.blocks import Block, Count, Finite, FolderName, NotNegative, OpenBlock, Switch

Averaging = Literal["linear", "encoded", "gamma2.2", "highlights"]
Depth = Literal["flat", "ground", "slanted", "smooth"]
Share = Annotated[float, Field(ge=0, le=1)]
Range = Annotated[list[Annotated[float, Field(ge=0, allow_inf_nan=False)]], Field(min_length=2, max_length=2)]


class BackendOptions(Block):
    """Block ``io_backend``."""

    type: Literal["disk", "lmdb", "uncompressed_lmdb"] = Field(description="folders, or LMDBs of either kind")
    verify: bool = Field(False, description="compare what is read from an uncompressed LMDB with its checksums")


class DatasetOptions(Block):
    """What every dataset of the plugin and BasicSR's loader read."""

    name: FolderName | None = Field(None, description="for the log, and the folder of saved pictures")
    type: str = Field("DeblurPairDataset", description="class of the data")
    phase: str | None = Field(None, description="set by BasicSR")
    scale: Literal[1] | None = Field(1, description="deblurring keeps the size")
    manual_seed: int | None = Field(None, description="set by a training to that of the run")
    dataroot_gt: str | None = Field(None, description="LMDB or folder of the sharp pictures")
    io_backend: BackendOptions | None = Field(None, description="how the pictures are stored")
    uint8: bool = Field(False, description="hand over bytes, which become float on the device")
    cache: bool = Field(False, description="keep every decoded picture in the memory of each process")
    on_bad_sample: Literal["stop", "skip"] = Field(
        "stop", description="what a training does at a sample that cannot be read; skip takes the next one"
    )
    num_worker_per_gpu: Annotated[int, Field(ge=0)] | None = Field(None, description="data loading processes")
    batch_size_per_gpu: Annotated[int, Field(ge=1)] | None = Field(None, description="pictures in a step and process")
    dataset_enlarge_ratio: Count = Field(1, description="passes over the pictures in an epoch")
    prefetch_mode: Literal["cpu", "cuda"] | None = Field(None, description="how the next batch is fetched ahead")
    num_prefetch_queue: Count = Field(1, description="batches that prefetch_mode: cpu holds")
    pin_memory: bool = Field(False, description="page-locked memory, faster to copy to the GPU")
    persistent_workers: bool = Field(False, description="keep the workers from epoch to epoch")


class CropOptions(DatasetOptions):
    """What the datasets that give crops read beyond that."""

    gt_size: Annotated[int, Field(ge=1)] | None = Field(None, description="side of the random crops in pixels")
    use_hflip: bool = Field(True, description="mirror half of the crops")
    use_rot: bool = Field(True, description="turn half of the crops")


class DeblurPairOptions(CropOptions):
    """Options of ``DeblurPairDataset``."""

    dataroot: str | None = Field(None, description="folder of a split in the GoPro layout")
    dataroot_lq: str | None = Field(None, description="LMDB or folder of the blurred pictures")
    blur: Literal["blur", "blur_gamma"] = Field("blur", description="which blurred frames of dataroot")
    num_frames: Count | None = Field(None, description="so many pairs, evenly spaced; by default all")


class SyntheticMotionBlurOptions(CropOptions):
    """Options of ``SyntheticMotionBlurDataset``; a list of names draws one of them for each pair."""

    realistic: bool = Field(False, description="defaults for blur like that of hand-held cameras")
    blur_extent: Range | None = Field(None, description="smallest and largest extent of the blur in pixels")
    blur_median: Annotated[float, Field(gt=0)] | None = Field(None, description="median of log-normal extents")
    sharp_share: Share | None = Field(None, description="share of the pairs without blur")
    averaging: Averaging | Annotated[list[Averaging], Field(min_length=1)] | None = Field(
        None, description="what is blurred, or a list to draw from"
    )
    depth: Depth | Annotated[list[Depth], Field(min_length=1)] | None = Field(
        None, description="how far the scene is, or a list to draw from"
    )
    turn_share: Range | None = Field(None, description="part of the camera's path that is pitch and yaw")
    zoom: Annotated[Finite, Field(ge=0)] | None = Field(None, description="change of scale a pixel of extent")
    object_share: Share | None = Field(None, description="share of the pairs in which something moves on its own")
    object_folder: str | None = Field(None, description="folder of pictures with alpha that move")
    photon_noise: Range | None = Field(None, description="noise that grows with the light, in levels of 255")
    read_noise: Range | None = Field(None, description="noise that does not, in levels of 255")
    jpeg_share: Share | None = Field(None, description="share of the blurred pictures that went through JPEG")
    jpeg_quality: Annotated[list[Annotated[float, Field(ge=1, le=100)]], Field(min_length=2, max_length=2)] | None = (
        Field(None, description="smallest and largest quality of it")
    )
    render_on: Literal["cpu", "device"] = Field("cpu", description="device leaves rendering to the model")


class LinearMotionPatchOptions(DatasetOptions):
    """Options of ``LinearMotionPatchDataset``."""

    averaging: Averaging = Field("encoded", description="what is blurred")
    noise: Range = Field([0, 2], description="smallest and largest noise, of 255")
    patches_per_photo: Count = Field(1, description="patches of each photograph in an epoch")


class LoaderOptions(OpenBlock):
    """What BasicSR's loader reads of every dataset."""

    num_worker_per_gpu: Annotated[int, Field(ge=0)] | None = Field(None, description="data loading processes")
    batch_size_per_gpu: Annotated[int, Field(ge=1)] | None = Field(None, description="pictures in a step and process")
    dataset_enlarge_ratio: Annotated[Finite, Field(gt=0)] = Field(1, description="passes over the data in an epoch")
    prefetch_mode: Literal["cpu", "cuda"] | None = Field(None, description="how the next batch is fetched ahead")
    num_prefetch_queue: NotNegative = Field(1, description="batches that prefetch_mode: cpu holds")
    pin_memory: Switch | None = Field(None, description="page-locked memory, faster to copy to the GPU")
    persistent_workers: Switch | None = Field(None, description="keep the workers from epoch to epoch")


class StockBackendOptions(OpenBlock):
    """Block ``io_backend`` of BasicSR's datasets."""

    type: Literal["disk", "lmdb", "memcached"] = Field(description="how the pictures are stored")


class StockDatasetOptions(LoaderOptions):
    """What BasicSR's own datasets read alike."""

    io_backend: StockBackendOptions = Field(None, description="how the pictures are stored")  # type: ignore[assignment]
    use_hflip: Switch | None = Field(None, description="mirror half of the crops")
    use_rot: Switch | None = Field(None, description="turn half of the crops")
    gt_size: Annotated[int, Field(ge=1)] | None = Field(None, description="side of the random crops in pixels")


DATASETS: dict[str, type[DatasetOptions]] = {
    "DeblurPairDataset": DeblurPairOptions,
    "LinearMotionPatchDataset": LinearMotionPatchOptions,
    "SyntheticMotionBlurDataset": SyntheticMotionBlurOptions,
}
