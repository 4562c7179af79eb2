"""The dataset that renders a new motion-blurred pair from a sharp photograph for every sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from macr_plugin.data.datasets.bad_samples import read_or_replace
from macr_plugin.data.datasets.dataset_options import option_name, require_option
from macr_plugin.data.datasets.deblur_pair_dataset import Crop
from macr_plugin.data.datasets.drawn_index import sample_generator
from macr_plugin.data.datasets.photo_source import open_photos
from macr_plugin.data.synthesis.blur_model import SETTINGS, SUBFRAMES_PER_PIXEL, blur_model
from macr_plugin.data.synthesis.paths import subframe_count
from macr_plugin.data.synthesis.rendering import render_pair, sharp_picture
from macr_plugin.data.synthesis.torch_rendering import for_device
from macr_plugin.errors import InputError
from macr_plugin.visualization import Box

RENDER_ON = ("cpu", "device")
OPTION_OF_SETTING = {
    setting: {"extent": "blur_extent", "median": "blur_median"}.get(setting, setting) for setting in SETTINGS
}


class SyntheticMotionBlurDataset(torch.utils.data.Dataset[dict[str, Any]]):
    """Pairs of a blurred and a sharp picture, rendered on the fly from a folder of sharp photographs.

    Each sample is a crop at a random place of one photograph, seen by a camera that moves along a path of its own while
    the shutter is open: see :mod:`macr_plugin.data.synthesis.rendering`. In training every epoch gives other crops and
    other blur, so the folder does not run out; elsewhere each photograph gives always the same pair.

    An epoch has one pair of each photograph; BasicSR's ``dataset_enlarge_ratio`` makes it longer.

    Args:
        opt: Options of the dataset, left unchanged.

            * ``phase``: ``train`` for new draws in every epoch, anything else for the same ones every time.
            * ``dataroot_gt``: folder of the sharp photographs, searched with all folders in it; or an LMDB of sharp
              pictures.
            * ``io_backend``: ``{type: disk}`` for a folder, ``{type: lmdb}`` or ``{type: uncompressed_lmdb}``, which
              spares the decoding, for an LMDB. Default: disk.
            * ``gt_size``: side of the square pictures in pixels.
            * ``realistic``: defaults for blur like that of hand-held cameras, which differs from place to place: those
              that follow a semicolon. Default: false.
            * ``blur_extent``: smallest and largest extent of the blur in pixels, that of the nearest things. Default:
              [4, 12]; [0, 40].
            * ``blur_median``: median of the extents, which are then log-normal; empty for evenly spread ones. Default:
              empty; 10.
            * ``sharp_share``: share of the pairs without blur, so that what is sharp stays sharp. Default: 0; 0.1.
            * ``averaging``: ``linear`` averages light, as a sensor and GoPro's ``blur_gamma`` do; ``encoded`` averages
              the values of the photograph, as GoPro's ``blur``; ``gamma2.2`` averages light behind a plain power;
              ``highlights`` is ``linear`` with bright lights that leave streaks. A list: one of them for each pair.
              Default: ``linear``; all four.
            * ``depth``: ``flat``, ``ground`` below a horizon, ``slanted`` plane or ``smooth`` random depth; near things
              follow the camera's change of place. A list: one of them for each pair. Default: ``flat``; all four.
            * ``turn_share``: smallest and largest part of the camera's path that is pitch and yaw, which move near and
              far alike. Default: [0, 0]; [0.2, 1].
            * ``zoom``: largest relative change of scale for each pixel of extent. Default: 0; 3e-4.
            * ``object_share``: share of the pairs in which something moves on its own. Default: 0; 0.3.
            * ``object_folder``: folder of pictures with alpha that move. Default: soft random shapes, filled from
              another photograph.
            * ``photon_noise``, ``read_noise``: smallest and largest noise of the blurred picture, which grows with the
              light or does not: standard deviation at mid-grey in levels of 255. Default: [0, 0]; [0, 2] and [0, 0.1].
            * ``jpeg_share``: share of the blurred pictures that went through JPEG. Default: 0; 0.2.
            * ``jpeg_quality``: smallest and largest quality of it. Default: [80, 98].
            * ``render_on``: ``cpu`` renders in the worker; ``device`` leaves it to ``MultiScaleDeblurModel``, which
              renders a batch at once: for a GPU, since on a CPU it takes several times as long. Default: ``cpu``.
            * ``cache``: keep every decoded photograph in the memory of each worker: decoding a large one takes longer
              than rendering a pair. Default: false.
            * ``uint8``: give the pictures as uint8, 0 to 255. Default: false.
            * ``use_hflip``: flip half of the crops from left to right. Default: true for training.
            * ``use_rot``: flip half of the crops upside down, and transpose half of them. Default: true for training.
            * ``on_bad_sample``: ``stop`` ends a training at a sample that cannot be read; ``skip`` takes the next one
              that can, and the log counts them. Default: ``stop``.
            * ``manual_seed``: another seed gives other pairs; a training sets it to that of the run. Default: 0.

    Raises:
        InputError: An option is missing or unusable, or the folder holds no photographs. Reading a pair raises it when
            a photograph cannot be decoded or is too small for ``gt_size`` and the largest blur.
    """

    def __init__(self, opt: Mapping[str, Any]) -> None:
        self.opt = opt
        self._train = opt["phase"] == "train"
        self._size: int = require_option(self.opt, "gt_size")
        given = {setting: opt[name] for setting, name in OPTION_OF_SETTING.items() if name in opt}
        self._model = blur_model(
            given, bool(opt.get("realistic")), lambda setting: option_name(opt, OPTION_OF_SETTING[setting])
        )
        self._on_device = self._choose("render_on", RENDER_ON) == "device"
        if self._on_device and self._model.jpeg_share:
            raise InputError(
                f"{option_name(opt, 'jpeg_share')} is not rendered on the device: set it to 0, or "
                f"{option_name(opt, 'render_on')} to cpu"
            )
        self._keys, self._reader = open_photos(opt)
        self._seed: int = opt.get("manual_seed") or 0
        self._use_hflip: bool = opt.get("use_hflip", self._train)
        self._use_rot: bool = opt.get("use_rot", self._train)
        self._uint8: bool = opt.get("uint8", False)

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Render a pair.

        Args:
            index: Number of the photograph.

        Returns:
            ``lq`` and ``gt``, the blurred and the sharp picture: float32 tensors of shape (3, gt_size, gt_size), RGB, 0
            to 1, or uint8; ``lq_path`` and ``gt_path``, both the name of the photograph in its folder or LMDB. With
            ``render_on: device``, ``gt`` is uint8, and instead of ``lq`` there is what
            :func:`macr_plugin.data.synthesis.torch_rendering.for_device` gives.

        Raises:
            InputError: See the class.
        """
        return read_or_replace(self.opt, index, len(self), self._render)

    def _render(self, index: int) -> dict[str, Any]:
        generator = sample_generator(self._seed, index, self._train)
        margin = self._model.margin(self._size, self._size)
        photo = self._draw_crop(index, self._size + 2 * margin, generator)
        extent = self._model.draw_extent(generator)
        # A batch needs camera paths of one length: that of the longest.
        count = subframe_count(self._model.extent[1], SUBFRAMES_PER_PIXEL) if self._on_device else None
        shot = self._model.draw_shot(generator, extent, (self._size, self._size), self._draw_other_photo, count)
        window = Box(margin, margin, self._size, self._size)
        paths = {"lq_path": self._keys[index], "gt_path": self._keys[index]}
        if self._on_device:
            sharp = sharp_picture(photo, shot, window)
            return {"gt": _to_tensor(sharp), **for_device(photo, shot, margin, self._model), **paths}
        blur, sharp = render_pair(photo, shot, window)
        lq, gt = _to_tensor(blur), _to_tensor(sharp)
        return {"lq": lq if self._uint8 else lq / 255, "gt": gt if self._uint8 else gt / 255, **paths}

    def _draw_other_photo(self, generator: np.random.Generator) -> np.ndarray:
        photo = self._reader.read(self._keys[int(generator.integers(len(self._keys)))])
        return photo[slice(None), slice(None)][..., ::-1]

    def _draw_crop(self, index: int, side: int, generator: np.random.Generator) -> np.ndarray:
        key = self._keys[index]
        photo = self._reader.read(key)
        spare_rows, spare_columns = photo.shape[0] - side, photo.shape[1] - side
        if min(spare_rows, spare_columns) < 0:
            raise InputError(
                f"{self._reader.name(key)} is {photo.shape[1]}x{photo.shape[0]}, smaller than "
                f"{option_name(self.opt, 'gt_size')} with the margin for {option_name(self.opt, 'blur_extent')}, "
                f"{side}x{side}: remove it or lower one of them"
            )
        top, left = int(generator.integers(spare_rows + 1)), int(generator.integers(spare_columns + 1))
        # The camera moves in every direction alike, so that the sharp crop may be flipped before it is blurred.
        hflip, vflip, transpose = generator.integers(2, size=3).astype(bool)
        crop = Crop(
            slice(top, top + side),
            slice(left, left + side),
            hflip=self._use_hflip and hflip,
            vflip=self._use_rot and vflip,
            transpose=self._use_rot and transpose,
        )
        return np.ascontiguousarray(crop.take(photo)[..., ::-1])

    def _choose(self, name: str, known: Sequence[str]) -> Any:
        value = self.opt.get(name, known[0])
        if value not in known:
            raise InputError(f"{option_name(self.opt, name)} is {value}: choose {' or '.join(known)}")
        return value


def _to_tensor(picture: np.ndarray) -> Tensor:
    """Shape (height, width, 3), BGR, becomes (3, height, width), RGB."""
    return torch.from_numpy(picture[..., ::-1].transpose(2, 0, 1).copy())
