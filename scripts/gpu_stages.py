"""What ``gpu_check.py`` runs: tests, trainings and timings, each small enough for a process of its own."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from macr_plugin.benchmark.options import MODES

SCRIPTS = Path(__file__).parent
TESTS = SCRIPTS.parent / "tests"
NETWORKS = ("MACR", "SRN", "DeepDeblur", "NAFNet-32", "NAFNet-64", "Restormer", "MIMO-UNet")


@dataclass(frozen=True)
class Stage:
    """One step of the check.

    Attributes:
        name: How ``--stage`` calls it.
        title: Its heading in the report.
        command: What is run; ``{out}`` stands for the folder of the stage.
    """

    name: str
    title: str
    command: tuple[str, ...]


def script(line: str, *arguments: str, plots: bool = False) -> tuple[str, ...]:
    """Command of a script of this folder that writes its figures to the folder of its stage.

    Args:
        line: Name of the script without ``.py``, and arguments.
        arguments: More of them, as they are.
        plots: Whether it draws a picture too.
    """
    name, *first = shlex.split(line)
    output = ["--json", "{out}/figures.json", *(["--plot", "{out}/plot.png"] if plots else [])]
    return sys.executable, str(SCRIPTS / f"{name}.py"), *first, *arguments, *output


def tests(*arguments: str | Path) -> tuple[str, ...]:
    """Command of pytest."""
    command = sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junitxml", "{out}/tests.xml"
    return *command, *map(str, arguments)


def stages_of(has_gpu: bool, imports: Sequence[Path] = (), network: str | None = None) -> list[Stage]:
    """All stages of a machine, the ones that tell most first.

    Args:
        has_gpu: Whether there is a GPU; otherwise everything is small.
        imports: Files that register a network to be measured too.
        network: Its options as JSON, with ``type``.
    """
    if not has_gpu:
        return _on_cpu()
    return [*_tests_on_gpu(), *_trainings(), *_timings(imports, network)]


def files_of_cuda_tests() -> list[Path]:
    """Test files with tests for a GPU; the others may need packages that are not there."""
    return [path for path in sorted(TESTS.rglob("test_*.py")) if "pytest.mark.cuda" in path.read_text()]


def _tests_on_gpu() -> list[Stage]:
    models = TESTS / "models"
    numerics = script("benchmark_steps --numerics --steps 500 --batch 2")
    return [
        Stage("captures", "Captures that are made to fail", tests("-m", "cuda", models / "test_cuda_graphs.py")),
        Stage(
            "waits",
            "Steps that never wait for the GPU",
            tests("-m", "cuda", "-k", "no_step_waits", models / "test_training_step.py"),
        ),
        Stage("tests", "Tests on the GPU", tests("-m", "cuda", *files_of_cuda_tests())),
        Stage("numerics", "Numerics over 500 steps", numerics),
    ]


def _trainings() -> list[Stage]:
    stages = []
    for batch in (2, 16):
        loop = f"benchmark_training --frames 16 --images 320 --epochs 2 --workers 8 --batch {batch}"
        title = f"Whole training loop, batch {batch}"
        stages += [
            Stage(f"steps-{batch}", f"Training step, batch {batch}", script(f"benchmark_steps --batch {batch}")),
            Stage(f"loop-{batch}", title, script(loop, plots=True)),
            Stage(
                f"loop-{batch}-compiled", f"{title}, compiled", script(f"{loop} --compile --compiled-only", plots=True)
            ),
        ]
    curve = script("benchmark_steps --settings off 'all auto' --batch 1 2 4 8 16 32", plots=True)
    return [*stages, Stage("steps-curve", "Training step over the batch", curve)]


def _timings(imports: Sequence[Path], network: str | None) -> list[Stage]:
    # What one network takes to compile in three precisions may exceed a stage: the next call goes on.
    one_size = "benchmark_latency --resume --sizes 720x1280 --runs 30 --warm-up 5 --precisions fp32 bf16 fp16"
    stages = [
        Stage(
            "validation", "Validation of 100 frames", script("benchmark_validation --frames 100 --rounds 3", plots=True)
        )
    ]
    for mode in MODES:
        for name in NETWORKS:
            # MACR each time, for the ratio.
            command = script(one_size, "--modes", mode, "--networks", *dict.fromkeys(("MACR", name)))
            stages.append(Stage(f"latency-{name}-{mode}", f"Latency of {name}, {mode}", command))
    if network:
        files = [part for path in imports for part in ("--import", str(path))]
        command = script(one_size, "--networks", "MACR", "--network", network, *files, "--modes", *MODES)
        stages.append(Stage("latency-imported", "Latency of the imported network", command))
    sizes = "180x320 360x640 540x960 720x1280 1080x1920 1440x2560"
    curve = f"benchmark_latency --networks MACR --precisions bf16 --sizes {sizes} --runs 20 --curve"
    return [
        *stages,
        Stage("latency-curve", "Latency and memory over pixels", script(curve, plots=True)),
        Stage("data", "Reading pairs, and moving them to the GPU", script("benchmark_data --frames 100", plots=True)),
    ]


def _on_cpu() -> list[Stage]:
    small = "--num-feat 8 --num-blocks 1 --crop 48 --device cpu"
    sizes = "--runs 2 --device cpu --sizes 48x64 72x96 96x128"
    graphs, optimize = TESTS / "models" / "test_cuda_graphs.py", TESTS / "inference" / "test_optimize.py"
    steps = f"benchmark_steps {small} --steps 2 --rounds 1 --warm-up 1 --settings off channels_last --batch 1 2"
    nets = f"benchmark_latency {sizes} --networks MACR NAFNet-32 --modes eager optimized"
    curve = f"benchmark_latency {sizes} --networks MACR-small --curve"
    return [
        Stage("captures", "Captures that are made to fail, with stand-ins", tests(graphs)),
        Stage("tests", "Tests on the GPU", tests("-m", "cuda", optimize)),
        Stage("numerics", "Numerics", script(f"benchmark_steps --numerics {small} --steps 5 --batch 1")),
        Stage("steps", "Training step over the batch", script(steps, plots=True)),
        Stage("latency", "Latency", script(nets)),
        Stage("latency-curve", "Latency and memory over pixels", script(curve, plots=True)),
    ]
