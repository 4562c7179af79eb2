"""Shows that a network learns: it is trained on one motion-blurred crop until it restores that crop."""

import numpy as np
import torch
from torch.nn.functional import l1_loss, mse_loss

from macr_plugin.archs.pyramid import image_pyramid
from macr_plugin.data.synthesis.blur_model import Shot
from macr_plugin.data.synthesis.demo import PHOTO_FOLDER
from macr_plugin.data.synthesis.paths import draw_camera_path, generator_for
from macr_plugin.data.synthesis.rendering import render_pair
from macr_plugin.data.synthesis.source_photos import read_photo
from macr_plugin.visualization import Box


def motion_blurred_pair(size):
    """Blurred and sharp crop of a photograph, each (1, 3, size, size) RGB in [0, 1]; the same on every call."""
    path = draw_camera_path(generator_for(0, "overfitting"), extent=6)
    window = Box(top=90, left=140, height=size, width=size)
    pictures = render_pair(read_photo(PHOTO_FOLDER / "chelsea.png")[..., ::-1], Shot(path), window)
    return [torch.from_numpy(picture.astype(np.float32) / 255).permute(2, 0, 1)[None] for picture in pictures]


def gain_after_overfitting(net, iterations, learning_rate, size=48):
    """Train a network in place on one crop, with the L1 loss of every scale summed and Adam.

    Nothing here is random: seed before the network is built.

    Args:
        net: Network with ``forward(x, all_scales=True)``, finest scale first.
        iterations: Number of steps.
        learning_rate: Adam's, fixed.
        size: Side of the crop in pixels.

    Returns:
        By how many dB the PSNR (RGB, float, clipped to [0, 1]) of the restored crop exceeds that of the blurred one.
    """
    blurred, sharp = motion_blurred_pair(size)
    optimizer = torch.optim.Adam(net.parameters(), learning_rate)
    for _ in range(iterations):
        optimizer.zero_grad()
        pyramid = net(blurred, all_scales=True)
        targets = image_pyramid(sharp, len(pyramid))
        sum(l1_loss(restored, target) for restored, target in zip(pyramid, targets, strict=True)).backward()
        optimizer.step()
    with torch.no_grad():
        restored = net(blurred).clamp(0, 1)
    return 10 * torch.log10(mse_loss(blurred, sharp) / mse_loss(restored, sharp)).item()
