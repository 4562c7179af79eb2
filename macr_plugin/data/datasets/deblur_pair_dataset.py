"""The dataset that YAML files name: blurred and sharp pictures from LMDBs or folders."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from macr_plugin.data.datasets.bad_samples import read_or_replace
from macr_plugin.data.datasets.dataset_options import option_name, require_option
from macr_plugin.data.datasets.drawn_index import DrawnIndex
from macr_plugin.data.pairs import ImagePair, evenly_spaced, pair_folders
from macr_plugin.data.preparation.gopro import find_pairs
from macr_plugin.data.storage.lmdb_format import DATA_FILE, read_sizes
from macr_plugin.data.storage.readers import ENCODINGS, CachedReader, FileReader, PictureParts, Reader, open_lmdb
from macr_plugin.errors import InputError


class DeblurPairDataset(torch.utils.data.Dataset[dict[str, Any]]):
    """Pairs of a blurred and a sharp picture of one size, for training and evaluation.

    Takes the options of BasicSR's ``PairedImageDataset`` and crops, flips and transposes as it does. Beyond that it
    reads the GoPro layout and uncompressed LMDBs, keys pairs by ``scene/frame``, and says what is wrong with unusable
    input.

    Where the pairs come from:

    * ``io_backend: {type: uncompressed_lmdb}`` with ``dataroot_lq`` and ``dataroot_gt``: two LMDBs of uncompressed
      pictures with the same keys. A crop costs the reading of the bands of rows that it touches; nothing is decoded.
    * ``io_backend: {type: lmdb}`` with ``dataroot_lq`` and ``dataroot_gt``: two LMDBs of PNG files with the same keys,
      as BasicSR writes and reads them.
    * ``io_backend: {type: disk}`` with ``dataroot_lq`` and ``dataroot_gt``: two folders with the same file names,
      relative to each folder.
    * ``io_backend: {type: disk}`` with ``dataroot``: a split in the GoPro layout.

    In a training that the plugin's or BasicSR's script runs, crops, flips and transpositions depend on ``manual_seed``,
    the epoch and the place in it alone: they are new in every epoch, and the same for any number of workers and after a
    resume. Asked for a plain ``int``, as by another sampler, the dataset draws from the state of ``random`` what
    ``PairedImageDataset`` draws from it.

    Args:
        opt: Options of the dataset, left unchanged.

            * ``phase``: ``train`` for random crops, anything else for whole pictures.
            * ``io_backend``: see above; with ``verify: true`` the bands of an uncompressed LMDB are compared with their
              checksums.
            * ``dataroot_lq``, ``dataroot_gt``: LMDBs or folders of the blurred and the sharp pictures.
            * ``dataroot``: folder of a split in the GoPro layout.
            * ``blur``: ``blur`` or ``blur_gamma``; goes with ``dataroot``. Default: ``blur``.
            * ``num_frames``: use that many pairs, evenly spaced over all. Default: all.
            * ``gt_size``: side of the square crops in pixels, needed for training.
            * ``use_hflip``: flip half of the crops from left to right. Default: true.
            * ``use_rot``: flip half of the crops upside down, and transpose half of them. Default: true.
            * ``uint8``: give bytes, a quarter of the memory to move, for ``MultiScaleDeblurModel``, which converts them
              on the device. Default: false, as BasicSR's models need it.
            * ``cache``: keep each picture in memory once it was read, uncompressed: 5.5 MB a pair of 1280x720 in every
              process. Workers keep theirs from epoch to epoch with ``persistent_workers`` only. Default: false.
            * ``manual_seed``: seed of the random draws; a training script sets it from the ``manual_seed`` of the run.
              Default: 0.
            * ``on_bad_sample``: ``stop`` ends a training at a sample that cannot be read; ``skip`` takes the next one
              that can, and the log counts them. Default: ``stop``.
            * ``scale``: 1, if given: deblurring keeps the size.

    Raises:
        InputError: An option is missing or unusable, the pictures cannot be found or paired, or LMDBs list pictures of
            two sizes in a pair or smaller than ``gt_size``. Reading a pair raises it when a picture cannot be decoded
            or is no 8-bit colour picture, the two sizes differ, or a picture is smaller than ``gt_size``.
    """

    def __init__(self, opt: Mapping[str, Any]) -> None:
        self.opt = opt
        self._train = opt["phase"] == "train"
        if self._train:
            require_option(self.opt, "gt_size")
        if opt.get("scale", 1) != 1:
            raise InputError(f"scale is {opt['scale']}: deblurring keeps the size, set it to 1 or remove it")
        self._blur: Reader
        self._sharp: Reader
        backend = opt.get("io_backend", {}).get("type")
        if backend in ENCODINGS:
            self._open_lmdbs(backend)
        elif backend == "disk":
            self._open_files()
        else:
            known = ", ".join(ENCODINGS)
            raise InputError(f"{option_name(self.opt, 'io_backend')} has type {backend}: choose {known} or disk")
        if opt.get("cache", False):
            self._blur, self._sharp = CachedReader(self._blur), CachedReader(self._sharp)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Read a pair.

        Args:
            index: Number of the pair; a :class:`~macr_plugin.data.datasets.drawn_index.DrawnIndex` decides what is
                drawn.

        Returns:
            ``lq`` and ``gt``, the blurred and the sharp picture: tensors of shape (3, height, width), RGB, float32 in 0
            to 1 or, with ``uint8``, bytes in 0 to 255; ``lq_path`` and ``gt_path``, both the key of the pair.

        Raises:
            InputError: See the class.
        """
        return read_or_replace(self.opt, index, len(self), self._read)

    def _read(self, index: int) -> dict[str, Any]:
        key = self.keys[index]
        blur, sharp = self._blur.read(key), self._sharp.read(key)
        height, width, _ = sharp.shape
        self._check_sizes(key, blur.shape[:2], (height, width))
        crop = self._draw(index, height, width) if self._train else WHOLE
        return {"lq": self._tensor(blur, crop), "gt": self._tensor(sharp, crop), "lq_path": key, "gt_path": key}

    def _draw(self, index: int, height: int, width: int) -> Crop:
        size = self.opt["gt_size"]
        generator = self._generator(index)
        # In BasicSR's order: paired_random_crop, then augment.
        top, left = generator.randint(0, height - size), generator.randint(0, width - size)
        hflip = self.opt.get("use_hflip", True) and generator.random() < 0.5
        vflip, transpose = (self.opt.get("use_rot", True) and generator.random() < 0.5 for _ in range(2))
        return Crop(slice(top, top + size), slice(left, left + size), hflip, vflip, transpose)

    def _generator(self, index: int) -> RandomSource:
        if isinstance(index, DrawnIndex):
            return random.Random(f"{self.opt.get('manual_seed', 0)} {index.epoch} {index.draw}")  # noqa: S311  crops, no secret
        return random

    def _tensor(self, frame: PictureParts, crop: Crop) -> torch.Tensor:
        tensor = torch.from_numpy(crop.take(frame).transpose(2, 0, 1).copy())
        return tensor if self.opt.get("uint8", False) else tensor / 255

    def _check_sizes(self, key: str, blur: tuple[int, ...], sharp: tuple[int, ...]) -> None:
        if blur != sharp:
            raise InputError(
                f"{self._blur.name(key)} is {blur[1]}x{blur[0]} and {self._sharp.name(key)} is {sharp[1]}x{sharp[0]}: "
                "the two pictures of a pair must have one size"
            )
        if self._train and min(sharp) < self.opt["gt_size"]:
            raise InputError(
                f"{self._sharp.name(key)} is {sharp[1]}x{sharp[0]}, smaller than the crop of {self.opt['gt_size']}: "
                f"lower {option_name(self.opt, 'gt_size')} or remove the pair"
            )

    def _open_lmdbs(self, backend: str) -> None:
        blur, sharp = self._folder("dataroot_lq"), self._folder("dataroot_gt")
        verify = bool(self.opt["io_backend"].get("verify"))
        self._blur, self._sharp = (open_lmdb(folder, backend, verify) for folder in (blur, sharp))
        blur_sizes, sharp_sizes = read_sizes(blur), read_sizes(sharp)
        self.keys = self._choose(_match_keys(blur, set(blur_sizes), sharp, set(sharp_sizes)))
        for key in self.keys:
            self._check_sizes(key, blur_sizes[key], sharp_sizes[key])

    def _open_files(self) -> None:
        pairs = self._find_files()
        self._blur = FileReader({pair.key: pair.blur for pair in pairs})
        self._sharp = FileReader({pair.key: pair.sharp for pair in pairs})
        self.keys = self._choose([pair.key for pair in pairs])

    def _find_files(self) -> list[ImagePair]:
        if self.opt.get("dataroot") is not None:
            return find_pairs(self._folder("dataroot"), self.opt.get("blur", "blur"))
        blur, sharp = self._folder("dataroot_lq"), self._folder("dataroot_gt")
        for folder in (blur, sharp):
            if (folder / DATA_FILE).is_file():
                types = " or ".join(ENCODINGS)
                raise InputError(
                    f"{folder} is an LMDB and {option_name(self.opt, 'io_backend')} has type disk: set type: {types}"
                )
        return pair_folders(blur, sharp)

    def _choose(self, keys: list[str]) -> list[str]:
        wanted = self.opt.get("num_frames")
        if wanted is None or wanted >= len(keys):
            return keys
        if wanted < 1:
            raise InputError(
                f"{option_name(self.opt, 'num_frames')} is {wanted}: use at least 1, or remove it to use all"
            )
        return [keys[number] for number in evenly_spaced(len(keys), wanted)]

    def _folder(self, name: str) -> Path:
        return Path(require_option(self.opt, name)).expanduser()


class RandomSource(Protocol):
    """What crops are drawn from: a generator or the module ``random``."""

    def randint(self, a: int, b: int) -> int:
        """Draw an integer between two, both included."""

    def random(self) -> float:
        """Draw a number from 0 to below 1."""


class Crop(NamedTuple):
    """Which part of a picture, and how it is turned.

    Attributes:
        rows: Rows of the picture that it takes.
        columns: Likewise.
        hflip: Whether it is flipped from left to right.
        vflip: Whether it is flipped upside down, after that.
        transpose: Whether rows and columns are exchanged, after that.
    """

    rows: slice
    columns: slice
    hflip: bool = False
    vflip: bool = False
    transpose: bool = False

    def take(self, frame: PictureParts) -> np.ndarray:
        """Take the part out of a picture.

        Args:
            frame: A picture of shape (H, W, 3), uint8 RGB.

        Returns:
            View of shape (rows, columns, 3), or (columns, rows, 3) if transposed; uint8 RGB.
        """
        part = frame[self.rows, self.columns]
        part = part[:: -1 if self.vflip else 1, :: -1 if self.hflip else 1]
        return part.transpose(1, 0, 2) if self.transpose else part


WHOLE = Crop(slice(None), slice(None))


def _match_keys(blur: Path, blur_keys: set[str], sharp: Path, sharp_keys: set[str]) -> list[str]:
    unpaired = sorted(blur_keys ^ sharp_keys)
    if unpaired:
        here, there = (blur, sharp) if unpaired[0] in blur_keys else (sharp, blur)
        raise InputError(
            f"{here} holds '{unpaired[0]}', {there} does not ({len(unpaired)} keys without a partner): recreate both "
            "from the same pictures"
        )
    return sorted(blur_keys)
