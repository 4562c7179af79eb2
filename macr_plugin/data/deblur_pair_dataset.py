"""The dataset that YAML files name: blurred and sharp pictures from LMDBs or folders.

BasicSR is imported inside the functions: importing BasicSR imports this module to register the dataset, and that fails
where importing this module is what began to import BasicSR, as in a spawned worker.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import torch

from macr_plugin.basicsr_compat import lmdb_environments
from macr_plugin.data.gopro import ImagePair, describe_size, find_pairs, pair_folders, read_bytes
from macr_plugin.data.lmdb import read_meta_info
from macr_plugin.errors import InputError


class LmdbReader:
    """Reads one LMDB, opened on the first read in each process and shared with everything that reads it there.

    Args:
        path: The LMDB folder.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def name(self, key: str) -> str:
        """Name a picture for a message.

        Args:
            key: Its key.

        Returns:
            The LMDB and the key.
        """
        return f"{self._path}: '{key}'"

    def read(self, key: str) -> bytes:
        """Read a picture file.

        Args:
            key: Its key.

        Returns:
            The bytes stored under the key.

        Raises:
            InputError: The LMDB cannot be opened or read, or lacks the key.
        """
        try:
            value = lmdb_environments().get(str(self._path), key, readonly=True, lock=False, readahead=False)
        except lmdb.Error as error:
            raise InputError(f"{self.name(key)} cannot be read ({error}): recreate the LMDB") from error
        if value is None:
            raise InputError(f"{self.name(key)} stands in meta_info.txt but not in data.mdb: recreate the LMDB")
        return value


class FileReader:
    """Reads picture files from folders.

    Args:
        files: Key -> file.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = files

    def name(self, key: str) -> str:
        """Name a picture for a message.

        Args:
            key: Its key.

        Returns:
            Its file.
        """
        return str(self._files[key])

    def read(self, key: str) -> bytes:
        """Read a picture file.

        Args:
            key: Its key.

        Returns:
            The bytes of the file.

        Raises:
            InputError: The file cannot be read.
        """
        return read_bytes(self._files[key])


class DeblurPairDataset(torch.utils.data.Dataset):
    """Pairs of a blurred and a sharp picture of one size, for training and evaluation.

    Takes the options of BasicSR's ``PairedImageDataset`` and, given the same state of ``random``, draws the same crops,
    flips and rotations. Beyond that it reads the GoPro layout, keys pairs by ``scene/frame``, crops before converting
    to float, and says what is wrong with unusable input.

    Where the pairs come from:

    * ``io_backend: {type: lmdb}`` with ``dataroot_lq`` and ``dataroot_gt``: two LMDBs with the same keys.
    * ``io_backend: {type: disk}`` with ``dataroot_lq`` and ``dataroot_gt``: two folders with the same file names,
      relative to each folder.
    * ``io_backend: {type: disk}`` with ``dataroot``: a split in the GoPro layout.

    Args:
        opt: Options of the dataset, left unchanged.

            * ``phase``: ``train`` for random crops, anything else for whole pictures.
            * ``io_backend``: see above.
            * ``dataroot_lq``, ``dataroot_gt``: LMDBs or folders of the blurred and the sharp pictures.
            * ``dataroot``: folder of a split in the GoPro layout.
            * ``blur``: ``blur`` or ``blur_gamma``; goes with ``dataroot``. Default: ``blur``.
            * ``num_frames``: use that many pairs, evenly spaced over all. Default: all.
            * ``gt_size``: side of the square crops in pixels, needed for training.
            * ``use_hflip``: flip half of the crops from left to right. Default: true.
            * ``use_rot``: flip half of the crops upside down, and transpose half of them. Default: true.
            * ``scale``: 1, if given: deblurring keeps the size.

    Raises:
        InputError: An option is missing or unusable, or the pictures cannot be found or paired. Reading a pair raises
            it when a picture cannot be decoded, the two sizes differ, or a picture is smaller than ``gt_size``.
    """

    def __init__(self, opt: Mapping[str, Any]) -> None:
        self.opt = opt
        self._train = opt["phase"] == "train"
        if self._train:
            self._require("gt_size")
        if opt.get("scale", 1) != 1:
            raise InputError(f"scale is {opt['scale']}: deblurring keeps the size, set it to 1 or remove it")
        self._blur: LmdbReader | FileReader
        self._sharp: LmdbReader | FileReader
        backend = opt.get("io_backend", {}).get("type")
        if backend == "lmdb":
            blur_lmdb, sharp_lmdb = self._folder("dataroot_lq"), self._folder("dataroot_gt")
            keys = _match_lmdb_keys(blur_lmdb, sharp_lmdb)
            self._blur, self._sharp = LmdbReader(blur_lmdb), LmdbReader(sharp_lmdb)
        elif backend == "disk":
            pairs = self._find_files()
            keys = [pair.key for pair in pairs]
            self._blur = FileReader({pair.key: pair.blur for pair in pairs})
            self._sharp = FileReader({pair.key: pair.sharp for pair in pairs})
        else:
            raise InputError(f"{self._option('io_backend')} has type {backend}: choose lmdb or disk")
        self.keys = self._choose(keys)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Read a pair.

        Args:
            index: Number of the pair.

        Returns:
            ``lq`` and ``gt``, the blurred and the sharp picture: float32 tensors of shape (3, height, width), RGB, 0 to
            1; ``lq_path`` and ``gt_path``, both the key of the pair.

        Raises:
            InputError: See the class.
        """
        from basicsr.utils import img2tensor

        key = self.keys[index]
        blur, sharp = _decode(self._blur, key), _decode(self._sharp, key)
        if blur.shape != sharp.shape:
            raise InputError(
                f"{self._blur.name(key)} is {describe_size(blur)} and {self._sharp.name(key)} is "
                f"{describe_size(sharp)}: the two pictures of a pair must have one size"
            )
        if self._train:
            blur, sharp = self._crop_and_augment(key, blur, sharp)
        lq, gt = img2tensor([blur.astype(np.float32) / 255, sharp.astype(np.float32) / 255])
        return {"lq": lq, "gt": gt, "lq_path": key, "gt_path": key}

    def _crop_and_augment(self, key: str, blur: np.ndarray, sharp: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        from basicsr.data.transforms import augment, paired_random_crop

        size = self.opt["gt_size"]
        if min(sharp.shape[:2]) < size:
            raise InputError(
                f"{self._sharp.name(key)} is {describe_size(sharp)}, smaller than the crop of {size}: lower "
                f"{self._option('gt_size')} or remove the pair"
            )
        sharp, blur = paired_random_crop(sharp, blur, size, scale=1)
        sharp, blur = augment([sharp, blur], self.opt.get("use_hflip", True), self.opt.get("use_rot", True))
        return blur, sharp

    def _find_files(self) -> list[ImagePair]:
        if self.opt.get("dataroot") is not None:
            return find_pairs(self._folder("dataroot"), self.opt.get("blur", "blur"))
        return pair_folders(self._folder("dataroot_lq"), self._folder("dataroot_gt"))

    def _choose(self, keys: list[str]) -> list[str]:
        wanted = self.opt.get("num_frames")
        if wanted is None or wanted >= len(keys):
            return keys
        if wanted < 1:
            raise InputError(f"{self._option('num_frames')} is {wanted}: use at least 1, or remove it to use all")
        return [keys[number * len(keys) // wanted] for number in range(wanted)]

    def _folder(self, name: str) -> Path:
        return Path(self._require(name)).expanduser()

    def _require(self, name: str) -> Any:
        value = self.opt.get(name)
        if value is None:
            raise InputError(f"{self._option(name)} is not set: add it to the YAML file")
        return value

    def _option(self, name: str) -> str:
        return f"datasets.{self.opt['phase']}.{name}"


def _match_lmdb_keys(blur: Path, sharp: Path) -> list[str]:
    blur_keys, sharp_keys = set(read_meta_info(blur)), set(read_meta_info(sharp))
    unpaired = sorted(blur_keys ^ sharp_keys)
    if unpaired:
        here, there = (blur, sharp) if unpaired[0] in blur_keys else (sharp, blur)
        raise InputError(
            f"{here} holds '{unpaired[0]}', {there} does not ({len(unpaired)} keys without a partner): recreate both "
            "from the same pictures"
        )
    return sorted(blur_keys)


def _decode(reader: LmdbReader | FileReader, key: str) -> np.ndarray:
    from basicsr.utils import imfrombytes

    data = reader.read(key)
    # OpenCV raises on an empty buffer and returns None on any other that it cannot decode.
    picture = imfrombytes(data, flag="color") if data else None
    if picture is None:
        raise InputError(f"{reader.name(key)} is not a readable picture: replace it or remove the pair")
    return picture
