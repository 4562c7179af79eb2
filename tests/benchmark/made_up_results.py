"""A benchmark that nobody ran: real pictures, made-up nets that leave more or less of the blur."""

import cv2
import numpy as np
import skimage.data

from macr_plugin.benchmark.measuring.intervals import paired_difference, scene_interval
from macr_plugin.benchmark.results import (
    ComparedFrame,
    Complexity,
    EntryResult,
    FrameQuality,
    Latency,
    Published,
    Quality,
    Results,
    Training,
)

FULL, TILED = "blur/full/uint8/rgb/mean", "blur/tile 256 overlap 32/uint8/rgb/mean"
GPU, CPU = "NVIDIA H100 80GB HBM3", "AMD EPYC 7763, 2 threads"
SCRIPT_LABEL = "<script>alert('net')</script> | a_b"


def frame_qualities(gain, seed, scenes=8, frames=5):
    """Frames whose difficulty all nets share."""
    common, own = np.random.default_rng(0), np.random.default_rng(seed)
    psnr = {f"scene{s}/{f:06d}": 24 + 6 * common.random() + gain for s in range(scenes) for f in range(frames)}
    psnr = {key: value + 0.3 * own.standard_normal() for key, value in psnr.items()}
    return [frame_quality(key, value, 0.6 + value / 100, 0.65 + value / 100) for key, value in psnr.items()]


def frame_quality(key, psnr, ssim=0.5, ssim_3d=0.6):
    return FrameQuality(key, {"psnr": psnr, "ssim": ssim, "ssim_3d": ssim_3d})


def quality_of(frames, protocol_id=FULL, first=None):
    keys = [frame.key for frame in frames]
    figures = {name: scene_interval([frame.figures[name] for frame in frames], keys) for name in frames[0].figures}
    return Quality(protocol_id, figures, frames, paired_difference(frames, first) if first else None)


def timed(milliseconds, dtype="fp32", mode="eager", device=GPU, size=(720, 1280), memory=1234.5):
    times = {"median_ms": milliseconds, "p10_ms": 0.97 * milliseconds, "p90_ms": 1.1 * milliseconds}
    return Latency(
        device, dtype, mode, 1, *size, 50, **times, frames_per_second=1000 / milliseconds, peak_memory_mib=memory
    )


def net(label, gain, seed, first, parameters, latencies, protocol_id=FULL, **more):
    return EntryResult(
        label,
        network="MACR",
        parameters=parameters,
        complexity=[Complexity(256, 256, parameters * 9000, "torch.utils.flop_counter")],
        quality=quality_of(frame_qualities(gain, seed), protocol_id, first),
        latencies=latencies,
        **{"weights": f"weights/{seed}.pth", **more},
    )


def make_results(folder):
    first = frame_qualities(6.0, 1)
    slow = [timed(51.6), timed(10.5, "bf16", "cuda_graph"), timed(900, device=CPU, size=(256, 256), memory=None)]
    shown = [("scene0/000000", "coffee"), ("scene1/000003", "astronaut")]
    failed = Latency(GPU, "fp32", "compiled", 1, 720, 1280, 0, error="out of memory")
    training = Training(2000, 412.5, 2, [0, 1], [30.1, 30.3])
    entries = [
        net("MACR", 6.0, 1, None, 4_010_000, slow, published=Published(32.3136, 0.9425, "Chen et al. 2021, table 4")),
        net("NAFNet-32", 6.02, 2, first, 17_110_000, [timed(42.3), failed]),
        net(SCRIPT_LABEL, 4.5, 3, first, 6_880_000, [timed(86.4)]),
        net("RIDNet", 3.0, 4, first, 1_500_000, [timed(21.0)], weights=None, training=training),
        net("MACR in tiles", 7.5, 5, None, 4_010_000, [], TILED, inference="tile 256 overlap 32"),
        EntryResult("Restormer", network="SpandrelNet", parameters=26_130_000, error="out of memory: try tiles"),
        EntryResult("Sun et al.", published=Published(24.64, 0.8429, "Sun et al. 2015, by Nah et al. 2017")),
    ]
    return Results(
        title="Deblurring benchmark",
        created="2021-07-15T12:30:00",
        environment={"torch": "2.14.1", "GPU": GPU},
        dataset="GoPro test",
        blurred_quality=[quality_of(frame_qualities(0.0, 9))],
        entries=entries,
        pictures=[write_pictures(folder, key, photo) for key, photo in shown],
    )


def write_pictures(folder, key, photo):
    """The first and the second net restore alike, so that their pictures are equal wherever they are looked at."""
    sharp = cv2.cvtColor(getattr(skimage.data, photo)(), cv2.COLOR_RGB2BGR)
    remaining = {"blurred": 21, "sharp": 1, "MACR": 5, "NAFNet-32": 5, SCRIPT_LABEL: 9, "RIDNet": 13}
    paths = {}
    for number, (name, length) in enumerate(remaining.items()):
        paths[name] = f"pictures/{key}/{number}.png"
        (folder / paths[name]).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / paths[name]), cv2.blur(sharp, (length, 1)))
    return ComparedFrame(key, paths.pop("blurred"), paths.pop("sharp"), paths)
