"""Measure the three steps of SunMotionNet on blur that is known, and draw the classifier's accuracy.

python scripts/benchmark_sun.py --weights sun.pth --channels 32 64 256 [--photos DIR] [--out results/sun]

* Classifier: top-1 accuracy and mean motion error over all lengths and orientations, on patches of every photograph.
* Smoothing: motion error on a field of motions that turns and grows smoothly, with and without it.
* Deconvolution with the true motion: uniform blur of 7, 11 and 15 pixels, noise of 1/255.
* All three: the locally linear blur of that smooth field, restored with the estimated and with the true field.
* Time of a 1280x720 frame.

The photographs are scikit-image's chelsea and coffee unless --photos names a folder; neither the classifier nor the
prior may have seen them. PSNR is of the whole picture, RGB, rounded to 8 bits.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from macr_plugin.archs.deconvolution import BlurOperator, deconvolve
from macr_plugin.archs.motion_classifier import CELL, PATCH_SIZE, candidate_log_probabilities
from macr_plugin.archs.motion_field import (
    CANDIDATE_STEP,
    CANDIDATES,
    CLASSES,
    KERNEL_RADIUS,
    LENGTHS,
    motion_distance,
)
from macr_plugin.archs.sun_arch import SunMotionNet
from macr_plugin.data.synthesis.demo import PHOTO_FOLDER, SCENES
from macr_plugin.data.synthesis.source_photos import list_photos, read_photo
from macr_plugin.errors import one_line_errors
from macr_plugin.metrics.psnr_ssim import psnr
from macr_plugin.weights.checkpoint import load_weights

NOISE = 1 / 255
# What the deconvolution assumes where it knows the motion: a little more than noise and rounding.
KNOWN_SIGMA = 0.006
# Standard deviation of a patch's grey values, of 255, from which on it counts as textured.
TEXTURE = 8
DECONVOLVED = tuple((length, angle) for length in (7, 11, 15) for angle in (0, 36, 90, 126))
FRAME = (720, 1280)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, metavar="PTH", help="trained weights")
    parser.add_argument("--channels", type=int, nargs=3, default=[96, 256, 1024], help="of the classifier")
    parser.add_argument("--sigma", type=float, nargs="+", default=[0.01, 0.02], help="noise_sigma to restore with")
    parser.add_argument("--photos", type=Path, metavar="DIR", help="sharp photographs (default: chelsea and coffee)")
    parser.add_argument("--patches", type=int, default=4, help="of each motion and photograph (default: %(default)s)")
    parser.add_argument("--size", type=int, nargs=2, default=[256, 384], help="height and width of the pictures")
    parser.add_argument("--frame", action="store_true", help="time a 1280x720 frame, too")
    parser.add_argument("--out", type=Path, default=Path("results/sun"), help="folder (default: %(default)s)")
    arguments = parser.parse_args()
    net = SunMotionNet(arguments.channels).eval().requires_grad_(False)
    load_weights(net, arguments.weights)
    demo = [PHOTO_FOLDER / name for names in SCENES["test"].values() for name in names]
    photos = [read_photo(path) for path in (list_photos(arguments.photos, True) if arguments.photos else demo)]
    pictures = [torch.from_numpy(photo[..., ::-1].transpose(2, 0, 1).copy()).float() / 255 for photo in photos]
    parts = [middle(picture, *arguments.size) for picture in pictures]
    figures = {
        "classifier": measure_classifier(net, pictures, arguments.patches, arguments.out),
        "known blur": measure_deconvolution(net, parts),
        "locally linear blur": measure_fields(net, parts, arguments.sigma),
    }
    if arguments.frame:
        figures["seconds of a 1280x720 frame"] = time_frame(net, pictures[0])
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "figures.json").write_text(json.dumps(figures, indent=1))
    print(json.dumps(figures, indent=1))


def middle(picture: Tensor, height: int, width: int) -> Tensor:
    """The middle of a picture with the margin that the longest motion needs."""
    size = height + 2 * KERNEL_RADIUS, width + 2 * KERNEL_RADIUS
    top, left = ((have - want) // 2 for have, want in zip(picture.shape[1:], size, strict=True))
    return picture[:, top : top + size[0], left : left + size[1]]


def with_noise(picture: Tensor, generator: torch.Generator) -> Tensor:
    """A picture with noise, rounded to 8 bits."""
    noisy = picture + NOISE * torch.randn(picture.shape, generator=generator)
    return (255 * noisy).round().clamp(0, 255) / 255


def measure_classifier(net: SunMotionNet, pictures: list[Tensor], patches: int, out: Path) -> dict[str, float]:
    """Accuracy and motion error over all 73 motions; draws them by length and orientation."""
    generator = torch.Generator().manual_seed(0)
    side = PATCH_SIZE + 2 * KERNEL_RADIUS
    kernels, vectors = CLASSES.kernels().float(), CLASSES.vectors()
    right = torch.zeros(len(CLASSES), dtype=torch.float64)
    errors, textured, counts = torch.zeros_like(right), [], patches * len(pictures)
    for label in range(len(CLASSES)):
        batch = []
        for picture in pictures:
            for _ in range(patches):
                top, left = (int(torch.randint(n - side + 1, (), generator=generator)) for n in picture.shape[1:])
                sharp = picture[:, top : top + side, left : left + side]
                blurred = torch.nn.functional.conv2d(sharp[:, None], kernels[label, None, None])[:, 0]
                batch.append(with_noise(blurred, generator))
        found = net(torch.stack(batch), return_logits=True).flatten(1).argmax(dim=1)
        hits, misses = (found == label).double(), motion_distance(vectors[found], vectors[label])
        right[label], errors[label] = hits.mean(), misses.mean()
        contrast = 255 * torch.stack(batch).mean(dim=1).flatten(1).std(dim=1)
        textured += list(zip(hits[contrast > TEXTURE].tolist(), misses[contrast > TEXTURE].tolist(), strict=True))
    draw_classifier(right, errors, out / "classifier.png")
    of_textured = np.mean(textured, axis=0)
    return {
        "patches": counts * len(CLASSES),
        "accuracy": right.mean().item(),
        "motion error in px": errors.mean().item(),
        "textured patches": len(textured),
        "accuracy on textured patches": of_textured[0],
        "motion error on textured patches in px": of_textured[1],
    }


def draw_classifier(right: Tensor, errors: Tensor, path: Path) -> None:
    """Heat maps of accuracy and motion error: lengths downwards, orientations to the right."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout="constrained")
    titles = ("top-1 accuracy / %", "mean motion error / px")
    for axes, values, title in zip(figure.subplots(1, 2), (100 * right, errors), titles, strict=True):
        # No motion has one value for all orientations.
        first = values[:1].expand(CLASSES.orientations)
        table = torch.cat([first, values[1:]]).view(len(LENGTHS), CLASSES.orientations)
        axes.imshow(table, aspect="auto", cmap="viridis")
        for (row, column), value in np.ndenumerate(table.numpy()):
            dark = value < (table.min() + table.max()) / 2
            axes.text(column, row, f"{value:.1f}", ha="center", va="center", color="white" if dark else "black")
        axes.set_xticks(range(CLASSES.orientations), [f"{CLASSES.step * n}°" for n in range(CLASSES.orientations)])
        axes.set_yticks(range(len(LENGTHS)), LENGTHS)
        axes.set(title=title, xlabel="orientation", ylabel="length / px")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def measure_deconvolution(net: SunMotionNet, parts: list[Tensor]) -> dict[str, dict[str, float]]:
    """PSNR before and after with the true uniform motion, mean over photographs and orientations, by length."""
    generator = torch.Generator().manual_seed(1)
    gains: dict[str, list[tuple[float, float]]] = {}
    for length, angle in DECONVOLVED:
        for part in parts:
            size = tuple(side - 2 * KERNEL_RADIUS for side in part.shape[1:])
            operator = BlurOperator(CANDIDATES.kernels(), torch.full(size, CANDIDATES.index(length, angle)))
            gains.setdefault(f"{length} px", []).append(before_and_after(net, operator, part, generator))
    return {name: named_means(pairs) for name, pairs in gains.items()}


def before_and_after(
    net: SunMotionNet, operator: BlurOperator, part: Tensor, generator: torch.Generator
) -> tuple[float, float]:
    blurred = with_noise(operator.blur(part), generator)
    restored = deconvolve(blurred, operator, net.mixture, KNOWN_SIGMA, stride=net.patch_stride)
    return decibels(blurred, operator.crop(part)), decibels(restored, operator.crop(part))


def decibels(picture: Tensor, sharp: Tensor) -> float:
    return psnr(picture[None], sharp[None]).item()


def named_means(pairs: list[tuple[float, float]]) -> dict[str, float]:
    before, after = np.mean(pairs, axis=0)
    return {"blurred": before, "restored": after, "gain": after - before, "least gain": min(b - a for a, b in pairs)}


def smooth_motions(height: int, width: int, number: int) -> Tensor:
    """A field of candidates (H, W) that turns from top to bottom and grows from left to right."""
    lengths = torch.linspace(5, 17, width).div(2).floor().int() * 2 + 1
    first = 60 * number % 180
    angles = torch.linspace(first, first + 48, height).div(CANDIDATE_STEP).round().int() * CANDIDATE_STEP % 180
    longer = 1 + (lengths // 2 - 1) * CANDIDATES.orientations
    return (longer[None] + angles[:, None] // CANDIDATE_STEP).long()


def measure_fields(net: SunMotionNet, parts: list[Tensor], sigmas: list[float]) -> dict[str, object]:
    """Motion error and PSNR on the blur of smooth fields, three for each photograph."""
    generator = torch.Generator().manual_seed(2)
    vectors, kernels = CANDIDATES.vectors(), CANDIDATES.kernels()
    errors: dict[str, list[float]] = {"as classified": [], "smoothed": []}
    restored: dict[str, list[tuple[float, float]]] = {}
    for part in parts:
        height, width = (side - 2 * KERNEL_RADIUS for side in part.shape[1:])
        for number in range(3):
            truth = smooth_motions(height, width, number)
            operator = BlurOperator(kernels, truth)
            blurred, sharp = with_noise(operator.blur(part), generator), operator.crop(part)
            alone = candidate_log_probabilities(net.classifier, blurred).argmax(dim=0)
            fields = {
                "as classified": alone.repeat_interleave(CELL, 0).repeat_interleave(CELL, 1)[:height, :width],
                "smoothed": net.motion_field(blurred).labels,
            }
            for name, labels in fields.items():
                errors[name].append(motion_distance(vectors[labels], vectors[truth]).mean().item())
            found = BlurOperator(kernels, fields["smoothed"])
            runs = {f"true field, noise_sigma {KNOWN_SIGMA}": (operator, KNOWN_SIGMA)}
            runs |= {f"estimated field, noise_sigma {sigma}": (found, sigma) for sigma in sigmas}
            for name, (known, sigma) in runs.items():
                result = deconvolve(blurred, known, net.mixture, sigma, stride=net.patch_stride)
                restored.setdefault(name, []).append((decibels(blurred, sharp), decibels(result, sharp)))
    return {
        "pictures": len(next(iter(restored.values()))),
        "motion error in px": {name: np.mean(values) for name, values in errors.items()},
        **{name: named_means(pairs) for name, pairs in restored.items()},
    }


def time_frame(net: SunMotionNet, picture: Tensor) -> dict[str, float]:
    """Seconds of a frame, by the clock and by the processor."""
    frame = torch.nn.functional.interpolate(picture[None], FRAME, mode="bilinear", antialias=True)
    clock, processor = time.perf_counter(), time.process_time()
    net(frame, progress=True)
    return {
        "clock": time.perf_counter() - clock,
        "processor": time.process_time() - processor,
        "threads": torch.get_num_threads(),
    }


if __name__ == "__main__":
    with one_line_errors("benchmark_sun.py"):
        main()
