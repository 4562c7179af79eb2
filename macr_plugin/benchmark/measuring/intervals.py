"""How sure a mean over frames is: bootstrap intervals over scenes, and paired differences between two entries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from macr_plugin.benchmark.results import FrameQuality, Interval, PairedDifference

RESAMPLES = 4000
SEED = 0
# Ends of a 95 % interval.
PERCENTILES = (2.5, 97.5)


def scene_interval(values: Sequence[float], keys: Sequence[str]) -> Interval:
    """Mean over frames with its 95 % percentile bootstrap interval over scenes.

    Whole scenes are drawn, with replacement: the frames of a scene resemble each other, and an interval over single
    frames would be too narrow. Of a single scene the frames are drawn, since there is nothing else to draw. The draws
    are seeded.

    Args:
        values: One value a frame.
        keys: ``scene/frame`` of each value.

    Returns:
        The mean and the ends of its interval.
    """
    names = [key.rpartition("/")[0] for key in keys]
    scenes, groups = np.unique(names if len(set(names)) > 1 else keys, return_inverse=True)
    sums, counts = np.bincount(groups, np.asarray(values, float)), np.bincount(groups)
    drawn = np.random.default_rng(SEED).integers(len(scenes), size=(RESAMPLES, len(scenes)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    # Interpolating between infinite means would give NaN.
    low, high = np.percentile(means, PERCENTILES, method="nearest")
    return Interval(float(np.mean(values)), float(low), float(high))


def paired_difference(frames: Sequence[FrameQuality], reference: Sequence[FrameQuality]) -> PairedDifference:
    """PSNR of one entry minus that of another, frame by frame.

    Args:
        frames: Frames of the entry.
        reference: Frames of the other entry; those that only one of the two has are left out. Equal values differ by 0,
            infinite ones too.

    Returns:
        The mean difference with its interval, and on how many frames each is better.
    """
    other = {frame.key: frame.psnr for frame in reference}
    pairs = {frame.key: (frame.psnr, other[frame.key]) for frame in frames if frame.key in other}
    differences = {key: 0.0 if one == two else one - two for key, (one, two) in pairs.items()}
    signs = np.sign(list(differences.values()))
    interval = scene_interval(list(differences.values()), list(differences))
    return PairedDifference(interval, int((signs > 0).sum()), int((signs < 0).sum()), int((signs == 0).sum()))


def is_separated(difference: Interval) -> bool:
    """Whether the interval of a difference excludes 0."""
    return difference.low > 0 or difference.high < 0


def verdict_of_runs(psnr: Sequence[float], first: Sequence[float]) -> str:
    """Say whether an entry was better than the first beyond the spread of the seeds.

    Args:
        psnr: Mean PSNR after each run.
        first: Likewise of the first entry.

    Returns:
        ``higher`` or ``lower`` if every run of one is better than every run of the other and both have several runs,
        else ``not separated``: one run says nothing about the spread.
    """
    if min(len(psnr), len(first)) > 1:
        if min(psnr) > max(first):
            return "higher"
        if max(psnr) < min(first):
            return "lower"
    return "not separated"


def verdict(difference: Interval | None, psnr: Sequence[float] = (), first: Sequence[float] = ()) -> str:
    """Say whether an entry is better than another, with one word for all tables and texts.

    Args:
        difference: Paired difference over the frames, None if it is not known.
        psnr: Mean PSNR after each run of the entry, where it was trained here.
        first: Likewise of the other entry.

    Returns:
        ``higher`` or ``lower`` if the interval of the difference excludes 0 and, where both have several runs, these
        are apart in the same direction; else ``not separated``.
    """
    said = [verdict_of_runs(psnr, first)] if min(len(psnr), len(first)) > 1 or difference is None else []
    if difference is not None:
        said.append("higher" if difference.low > 0 else "lower" if difference.high < 0 else "not separated")
    return said[0] if len(set(said)) == 1 else "not separated"
