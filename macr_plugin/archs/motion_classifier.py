"""The network of Sun et al. that tells by which straight motion a patch was blurred, and its use on whole pictures."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from macr_plugin.archs.blocks import RGB_CHANNELS
from macr_plugin.archs.motion_field import CANDIDATE_STEP, CANDIDATES, CLASS_STEP, CLASSES, rotation

#: Height and width of the patches, in pixels.
PATCH_SIZE = 30
#: Pixels between two patches when the network runs over a whole picture: its two poolings and the stride of its fully
#: connected layer.
CELL = 8
#: Subtracted from the patches.
MID_GREY = 0.5


class MotionClassifier(nn.Module):
    """Tells by which of 73 straight motions a patch was blurred.

    Convolution 7x7, pooling, convolution 5x5, pooling, a fully connected layer and a linear one, whose softmax gives
    the probabilities of :data:`~macr_plugin.archs.motion_field.CLASSES`. A ReLU follows all but the last; pooling takes
    the maximum over 2x2. The fully connected layers are convolutions, so that the network reads a whole picture too:
    one patch every 8 pixels.

    Args:
        channels: Outputs of the two convolutions and of the fully connected layer. The paper: 96, 256 and 1024.

    Shape:
        (N, 3, 30, 30) RGB in [0, 1] -> (N, 73, 1, 1) logits; (N, 3, H, W) -> (N, 73, (H - 22) // 8, (W - 22) // 8).

    With the paper's channels it has 4,899,017 parameters.

    Example:
        >>> MotionClassifier((4, 4, 8))(torch.rand(2, 3, 30, 30)).shape
        torch.Size([2, 73, 1, 1])
    """

    def __init__(self, channels: tuple[int, int, int] = (96, 256, 1024)) -> None:
        super().__init__()
        first, second, dense = channels
        # 30 pixels become 24, 12, 8 and 4.
        self.layers = nn.Sequential(
            nn.Conv2d(RGB_CHANNELS, first, 7),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(first, second, 5),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            # Of a patch alone it has one place; of a picture every second is enough and spares most of the time.
            nn.Conv2d(second, dense, 4, stride=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(dense, len(CLASSES), 1),
        )
        for name, parameter in self.layers.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.kaiming_normal_(parameter, nonlinearity="relu")

    def forward(self, patches: Tensor) -> Tensor:
        """Classify patches, or every place of a picture.

        Args:
            patches: Shape (N, 3, 30, 30), or whole pictures (N, 3, H, W); RGB in [0, 1].

        Returns:
            Logits, shape (N, 73, 1, 1), or (N, 73, (H - 22) // 8, (W - 22) // 8).
        """
        return self.layers(patches - MID_GREY)


def candidate_log_probabilities(classifier: nn.Module, picture: Tensor, progress: bool = False) -> Tensor:
    """Tell how likely each of the 361 candidates is at every cell of a picture.

    The picture is turned in steps of 6 degrees up to 24; a motion that the classifier then sees at 0 degrees has 0, 6,
    ..., 24 degrees in the picture. No motion is seen in all of them, so its probability is their mean. The
    probabilities of a cell are scaled to add up to 1.

    Args:
        classifier: Maps pictures to logits of the 73 classes, as :class:`MotionClassifier`.
        picture: Shape (3, H, W), RGB in [0, 1].
        progress: Show a progress bar.

    Returns:
        Log-probabilities, at most 0, shape (361, ceil(H / 8), ceil(W / 8)), for squares of 8x8 pixels; the patch of
        each lies around its centre.

    Example:
        >>> classifier = MotionClassifier((4, 4, 8)).requires_grad_(False)
        >>> candidate_log_probabilities(classifier, torch.rand(3, 40, 50)).shape
        torch.Size([361, 5, 7])
    """
    cells = math.ceil(picture.shape[-2] / CELL), math.ceil(picture.shape[-1] / CELL)
    angles = range(0, CLASS_STEP, CANDIDATE_STEP)
    probabilities = picture.new_empty(len(CANDIDATES), *cells)
    still = picture.new_zeros(cells)
    # The candidates of one class stand one after another, one for each angle.
    for number, angle in enumerate(tqdm(angles, desc="motion", unit="rotation", disable=not progress)):
        logits = classifier(_turned(picture, cells, angle)[None])
        seen = _turned_back(logits.softmax(dim=1), cells, angle)
        still += seen[0] / len(angles)
        probabilities[1 + number :: len(angles)] = seen[1:]
    probabilities[0] = still
    return probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log().log_softmax(dim=0)


def _canvas_cells(cells: tuple[int, int], angle: int) -> tuple[int, int]:
    """Rows and columns of cells that a turned picture needs."""
    if angle == 0:
        return cells
    rows, columns = cells
    cosine, sine = abs(math.cos(math.radians(angle))), abs(math.sin(math.radians(angle)))
    return math.ceil(rows * cosine + columns * sine) + 1, math.ceil(rows * sine + columns * cosine) + 1


def _turned(picture: Tensor, cells: tuple[int, int], angle: int) -> Tensor:
    """Turn a picture so that what has some angle in it has 0, its border repeated where the patches reach beyond it.

    The centre of the cells stays the centre.
    """
    rows, columns = (CELL * count + PATCH_SIZE - CELL for count in _canvas_cells(cells, angle))
    places = _pixel_places(rows, columns, picture)
    centre = picture.new_tensor([(CELL * cells[1] - 1) / 2, (CELL * cells[0] - 1) / 2])
    canvas_centre = picture.new_tensor([(columns - 1) / 2, (rows - 1) / 2])
    sources = (places - canvas_centre) @ rotation(angle).to(picture).T + centre
    return _sample(picture, sources, "bicubic").clamp(0, 1)


def _turned_back(values: Tensor, cells: tuple[int, int], angle: int) -> Tensor:
    """Read what the classifier said of a turned picture (1, K, rows, columns) at the cells of the upright one."""
    places = _pixel_places(*cells, values)
    centre = values.new_tensor([(cells[1] - 1) / 2, (cells[0] - 1) / 2])
    canvas_centre = values.new_tensor([(values.shape[-1] - 1) / 2, (values.shape[-2] - 1) / 2])
    sources = (places - centre) @ rotation(-angle).to(values).T + canvas_centre
    return _sample(values[0], sources, "bilinear")


def _pixel_places(rows: int, columns: int, like: Tensor) -> Tensor:
    """(x, y) of every pixel, shape (rows, columns, 2)."""
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.stack([x, y], dim=-1).to(like)


def _sample(values: Tensor, places: Tensor, mode: str) -> Tensor:
    """Interpolate (C, H, W) at places (x, y) in pixels, shape (rows, columns, 2); the border is repeated."""
    last = values.new_tensor([values.shape[-1] - 1, values.shape[-2] - 1]).clamp(min=1)
    grid = (2 * places / last - 1)[None]
    return functional.grid_sample(values[None], grid, mode=mode, padding_mode="border", align_corners=True)[0]
