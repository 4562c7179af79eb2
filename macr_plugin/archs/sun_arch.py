"""SunMotionNet: find the motion at every pixel, then undo its blur.

Jian Sun, Wenfei Cao, Zongben Xu, Jean Ponce: "Learning a Convolutional Neural Network for Non-uniform Motion Blur
Removal", CVPR 2015. docs/paper.md lists what is kept and what was chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from macr_plugin.archs.deconvolution import BlurOperator, deconvolve
from macr_plugin.archs.motion_classifier import CELL, PATCH_SIZE, MotionClassifier, candidate_log_probabilities
from macr_plugin.archs.motion_field import CANDIDATES, smooth_field
from macr_plugin.archs.padding import check_minimum_size
from macr_plugin.archs.patch_prior import PatchMixture
from macr_plugin.errors import InputError
from macr_plugin.visualization import motion_picture


class MotionField(NamedTuple):
    """The motion of every pixel of one picture.

    Attributes:
        labels: Index in :data:`~macr_plugin.archs.motion_field.CANDIDATES`, shape (H, W), int64.
        vectors: The motions in pixels, x to the right and y downwards, shape (H, W, 2); ``v`` and ``-v`` are the same.
    """

    labels: Tensor
    vectors: Tensor


class SunMotionNet(nn.Module):
    """Removes motion blur in three steps: classify patches, smooth the motion field, deconvolve.

    A network tells how likely each of 73 straight motions is around every eighth pixel, in five rotations of the
    picture, which makes 361 candidates (:mod:`~macr_plugin.archs.motion_classifier`). A Markov random field chooses one
    for every cell (:func:`~macr_plugin.archs.motion_field.smooth_field`). Half-quadratic splitting with a mixture of
    Gaussians of patches removes the blur (:func:`~macr_plugin.archs.deconvolution.deconvolve`). Only the first step
    learns, by ``MotionClassifierModel``; no gradient passes the others.

    Registered as ``SunMotionNet`` in BasicSR's ``ARCH_REGISTRY``.

    Args:
        channels: Outputs of the two convolutions and of the fully connected layer of the classifier. The paper: 96,
            256 and 1024.
        evidence_weight: Factor of the classifier's log-probabilities in the smoothing: the patches of neighbouring
            cells overlap, so that much of what each says is no news.
        smoothness: How much a squared pixel of distance between neighbouring motions counts against the log-probability
            of a motion. 0 leaves the field as the classifier sees it.
        smoothness_limit: Distance in pixels from which on it counts no more.
        noise_sigma: Standard deviation of the noise in the picture, for brightness in [0, 1], that the deconvolution
            assumes. Larger than the noise itself, since errors of the field count too; published for EPLL with
            known kernels: 0.01.
        patch_stride: Pixels between the patches of the prior; EPLL takes each, 1, in some sixteen times the time of 4.

    Shape:
        (N, 3, H, W) RGB in [0, 1] -> (N, 3, H, W), unclipped, for any H and W from :attr:`minimum_size` up.

    Raises:
        InputError: If an option is below what makes sense, or a picture is too small.

    The default has 4,899,017 parameters. The two last steps compute in float32 whatever the weights are.

    Example:
        >>> SunMotionNet(channels=(4, 4, 8))(torch.rand(1, 3, 32, 40)).shape
        torch.Size([1, 3, 32, 40])
    """

    #: Smallest height and width in pixels: one patch.
    minimum_size = PATCH_SIZE
    #: It works on every size as it is.
    multiple_of = 1

    def __init__(
        self,
        channels: Sequence[int] = (96, 256, 1024),
        evidence_weight: float = 0.5,
        smoothness: float = 0.5,
        smoothness_limit: float = 6.0,
        noise_sigma: float = 0.02,
        patch_stride: int = 4,
    ) -> None:
        super().__init__()
        if len(channels) != 3:
            raise InputError(f"network_g.channels of SunMotionNet are three numbers, not {list(channels)}")
        for name, value in {"evidence_weight": evidence_weight, "noise_sigma": noise_sigma}.items():
            if value <= 0:
                raise InputError(f"network_g.{name} of SunMotionNet is above 0, not {value}")
        if smoothness < 0:
            raise InputError(f"network_g.smoothness of SunMotionNet is 0 or more, not {smoothness}")
        if not 1 <= patch_stride <= 8:
            raise InputError(f"network_g.patch_stride of SunMotionNet is 1 to 8 pixels, a patch, not {patch_stride}")
        self.evidence_weight = evidence_weight
        self.smoothness = smoothness
        self.smoothness_limit = smoothness_limit
        self.noise_sigma = noise_sigma
        self.patch_stride = patch_stride
        self.classifier = MotionClassifier((channels[0], channels[1], channels[2]))
        self.mixture = PatchMixture.shipped()

    def forward(self, x: Tensor, return_logits: bool = False, progress: bool = False) -> Tensor:
        """Restore a batch of blurred pictures.

        Args:
            x: Blurred pictures, shape (N, 3, H, W), RGB in [0, 1].
            return_logits: Return what the classifier says instead, for its training.
            progress: Show progress bars.

        Returns:
            The restored pictures, shape (N, 3, H, W), unclipped; with ``return_logits`` the logits of
            :class:`~macr_plugin.archs.motion_classifier.MotionClassifier`.
        """
        check_minimum_size(x, self.minimum_size, "SunMotionNet")
        if return_logits:
            return self.classifier(x)
        return torch.stack([self._restore(picture, progress) for picture in x])

    @torch.no_grad()
    def motion_field(self, picture: Tensor, progress: bool = False) -> MotionField:
        """Find the motion of every pixel.

        Args:
            picture: Blurred picture, shape (3, H, W), RGB in [0, 1], from :attr:`minimum_size` up.
            progress: Show a progress bar.

        Returns:
            The field: labels of shape (H, W) and vectors of shape (H, W, 2), in pixels.
        """
        log_probabilities = candidate_log_probabilities(self.classifier, picture, progress).float()
        evidence = self.evidence_weight * log_probabilities
        cells = smooth_field(evidence, CANDIDATES, self.smoothness, self.smoothness_limit)
        labels = cells.repeat_interleave(CELL, 0).repeat_interleave(CELL, 1)
        labels = labels[: picture.shape[-2], : picture.shape[-1]]
        return MotionField(labels, CANDIDATES.vectors().to(log_probabilities)[labels])

    def extra_pictures(self, x: Tensor) -> dict[str, Tensor]:
        """Show what else the network found out, for the benchmark's report.

        Args:
            x: One blurred picture, shape (1, 3, H, W), RGB in [0, 1].

        Returns:
            ``motion field``: its colour picture with a legend, shape (1, 3, H', W), RGB in [0, 1]; see
            :func:`~macr_plugin.visualization.motion_picture`.
        """
        drawn = motion_picture(self.motion_field(x[0]).vectors.cpu().numpy())
        return {"motion field": torch.from_numpy(drawn[..., ::-1].copy()).permute(2, 0, 1)[None].float() / 255}

    @torch.no_grad()
    def _restore(self, picture: Tensor, progress: bool) -> Tensor:
        labels = self.motion_field(picture, progress).labels
        operator = BlurOperator(CANDIDATES.kernels(), labels)
        # Buffers follow the network into half precision, where the mixture is of no use; nor is it under autocast.
        mixture = self.mixture.float()
        with torch.autocast(picture.device.type, enabled=False):
            restored = deconvolve(
                picture.float(), operator, mixture, self.noise_sigma, stride=self.patch_stride, progress=progress
            )
        return restored.to(picture.dtype)
