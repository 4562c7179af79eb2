"""The dataset that renders patches with straight motion blur from sharp photographs, and says which motion it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import cv2
import numpy as np
import torch

from macr_plugin.archs.motion_classifier import PATCH_SIZE
from macr_plugin.archs.motion_field import CLASSES, KERNEL_RADIUS
from macr_plugin.data.datasets.bad_samples import read_or_replace
from macr_plugin.data.datasets.dataset_options import option_name
from macr_plugin.data.datasets.drawn_index import sample_generator
from macr_plugin.data.datasets.photo_source import open_photos
from macr_plugin.data.synthesis.response import Averaging, decode, encode
from macr_plugin.errors import InputError

DEFAULT_NOISE = (0.0, 2.0)


class LinearMotionPatchDataset(torch.utils.data.Dataset[dict[str, Any]]):
    """Patches of 30x30 pixels, each blurred by one of the 73 straight motions of Sun et al., with its number.

    Every motion is drawn equally often, the place in the photograph at random. In training every epoch gives other
    patches; elsewhere each number gives always the same one.

    Registered as ``LinearMotionPatchDataset`` in BasicSR's ``DATASET_REGISTRY``. An epoch has ``patches_per_photo``
    patches of each photograph; BasicSR's ``dataset_enlarge_ratio`` makes it longer.

    Args:
        opt: Options of the dataset, left unchanged.

            * ``phase``: ``train`` for new draws in every epoch, anything else for the same ones every time.
            * ``dataroot_gt``: folder of the sharp photographs, searched with all folders in it; or an LMDB of sharp
              pictures.
            * ``io_backend``: ``{type: disk}`` for a folder, ``{type: lmdb}`` or ``{type: uncompressed_lmdb}`` for an
              LMDB. Default: disk.
            * ``averaging``: what is blurred, one of :data:`~macr_plugin.data.synthesis.response.Averaging`. Default:
              ``encoded``, the values of the photograph, as deconvolution assumes and GoPro's ``blur`` was made.
            * ``noise``: smallest and largest standard deviation of the noise, of 255; each patch draws its own.
              Default: [0, 2].
            * ``patches_per_photo``: patches of each photograph in an epoch. Default: 1.
            * ``cache``: keep every decoded photograph in the memory of each worker; without it each patch decodes one.
              Default: false.
            * ``uint8``: give the patches as uint8, 0 to 255. Default: false.
            * ``on_bad_sample``: ``stop`` ends a training at a sample that cannot be read; ``skip`` takes the next one
              that can, and the log counts them. Default: ``stop``.
            * ``manual_seed``: another seed gives other patches; a training sets it to that of the run. Default: 0.

    Raises:
        InputError: An option is missing or unusable, or there are no photographs. Reading a patch raises it when a
            photograph cannot be decoded or is smaller than a patch with the margin of the longest motion, 54x54.
    """

    def __init__(self, opt: Mapping[str, Any]) -> None:
        self.opt = opt
        self._train = opt["phase"] == "train"
        self._keys, self._reader = open_photos(opt)
        self._averaging: Averaging = opt.get("averaging", "encoded")
        if self._averaging not in get_args(Averaging):
            raise InputError(
                f"{option_name(opt, 'averaging')} is {self._averaging}: choose {' or '.join(get_args(Averaging))}"
            )
        self._noise = _check_noise(opt.get("noise", DEFAULT_NOISE), option_name(opt, "noise"))
        self._patches_per_photo: int = opt.get("patches_per_photo", 1)
        self._seed: int = opt.get("manual_seed") or 0
        self._uint8: bool = opt.get("uint8", False)
        self._kernels = CLASSES.kernels().numpy()

    def __len__(self) -> int:
        return len(self._keys) * self._patches_per_photo

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Render a patch.

        Args:
            index: Number of the patch.

        Returns:
            ``lq``, the blurred patch: a float32 tensor of shape (3, 30, 30), RGB, 0 to 1, or uint8; ``label``, the
            number of its motion in :data:`~macr_plugin.archs.motion_field.CLASSES`; ``lq_path``, the name of the
            photograph in its folder or LMDB.

        Raises:
            InputError: See the class.
        """
        return read_or_replace(self.opt, index, len(self), self._render)

    def _render(self, index: int) -> dict[str, Any]:
        generator = sample_generator(self._seed, index, self._train)
        key = self._keys[index % len(self._keys)]
        label = int(generator.integers(len(CLASSES)))
        patch = blur_patch(self._draw_sharp(key, generator), self._kernels[label], self._averaging)
        noisy = patch + generator.normal(0, generator.uniform(*self._noise), patch.shape)
        values = torch.from_numpy(np.rint(noisy).clip(0, 255).astype(np.uint8).transpose(2, 0, 1).copy())
        return {"lq": values if self._uint8 else values / 255, "label": label, "lq_path": key}

    def _draw_sharp(self, key: str, generator: np.random.Generator) -> np.ndarray:
        """Cut a patch with the margin of the longest motion out of a photograph."""
        photo = self._reader.read(key)
        side = PATCH_SIZE + 2 * KERNEL_RADIUS
        spare_rows, spare_columns = photo.shape[0] - side, photo.shape[1] - side
        if min(spare_rows, spare_columns) < 0:
            raise InputError(
                f"{self._reader.name(key)} is {photo.shape[1]}x{photo.shape[0]}, smaller than a patch with the margin "
                f"of the longest motion, {side}x{side}: remove it"
            )
        top, left = int(generator.integers(spare_rows + 1)), int(generator.integers(spare_columns + 1))
        return photo[slice(top, top + side), slice(left, left + side)]


def blur_patch(sharp: np.ndarray, kernel: np.ndarray, averaging: Averaging) -> np.ndarray:
    """Blur a picture by one kernel, and cut off what the kernel could not see.

    Args:
        sharp: uint8 array of shape (height, width, 3), sRGB-encoded.
        kernel: Point-symmetric weights of shape (25, 25) that add up to 1.
        averaging: What the kernel averages.

    Returns:
        Shape (height - 24, width - 24, 3), uint8.
    """
    blurred = cv2.filter2D(decode(sharp, averaging), -1, kernel)
    return encode(blurred[KERNEL_RADIUS:-KERNEL_RADIUS, KERNEL_RADIUS:-KERNEL_RADIUS], averaging)


def _check_noise(noise: Any, name: str) -> tuple[float, float]:
    is_pair = isinstance(noise, Sequence) and len(noise) == 2 and all(isinstance(end, (int, float)) for end in noise)
    if not (is_pair and 0 <= noise[0] <= noise[1]):
        raise InputError(f"{name} {noise} is no range: give two standard deviations of 255, the smaller one first")
    return noise[0], noise[1]
