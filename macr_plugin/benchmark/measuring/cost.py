"""Measures what a network costs: parameters, multiply-accumulates, time and memory, for every network in one way."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from macr_plugin.archs.padding import pad_to_multiple
from macr_plugin.benchmark.options import Cost
from macr_plugin.benchmark.results import Complexity, Latency
from macr_plugin.errors import first_line
from macr_plugin.inference.memory import release_memory
from macr_plugin.inference.optimize import optimize, treatments_for
from macr_plugin.inference.restorer import Restorer, arithmetic, device_name
from macr_plugin.models.acceleration import DTYPES, best_acceleration
from macr_plugin.models.cuda_graphs import SideStream, capture
from macr_plugin.models.memory_layout import lay_out

COUNTER = "torch.utils.flop_counter / 2"


def _product_flops(first: Tensor, second: Tensor, **_: Any) -> int:
    """Twice the multiply-accumulates of a matrix product; those of a sparse matrix are of its stored numbers alone."""
    stored = first.numel() if first.layout == torch.strided else first.values().numel()
    return 2 * stored * second.shape[1]


# What torch.utils.flop_counter asks a formula for that wants the matrices themselves rather than their shapes.
_product_flops._get_raw = True  # type: ignore[attr-defined]
#: torch.utils.flop_counter itself takes a sparse matrix for a full one.
FORMULAS = {torch.ops.aten.mm: _product_flops}

#: Runs one pass, and gives the milliseconds of each of several passes.
Pass = Callable[[], object]


def count_parameters(network: nn.Module) -> int:
    """Count the parameters of a network; shared ones once."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_macs(network: nn.Module, size: tuple[int, int]) -> Complexity:
    """Count the multiply-accumulates of one pass over one picture.

    Convolutions and matrix products are counted, elementwise operations, normalisation, resampling and Fourier
    transforms are not. Nothing is computed where the network can run on shapes alone.

    Args:
        network: Maps (1, 3, H, W) to a picture.
        size: Height and width, in pixels.
    """
    try:
        macs = _count(copy.deepcopy(network).to("meta"), size, "meta")
    # Operations written outside torch have no rule for shapes alone, and say so in their own ways.
    except Exception:
        macs = _count(network, size, "cpu")
    return Complexity(*size, macs, COUNTER)


def _count(network: nn.Module, size: tuple[int, int], device: str) -> int:
    with FlopCounterMode(display=False, custom_mapping=FORMULAS) as counter, torch.no_grad():
        network(torch.zeros(1, 3, *size, device=device))
    # A multiply-accumulate counts as two there.
    return counter.get_total_flops() // 2


def measure_latencies(
    build: Callable[[], Restorer],
    cost: Cost,
    devices: list[torch.device],
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Latency]:
    """Time a network at every size, in every precision and mode.

    What fails, for lack of memory or of a kernel, is reported in its own record, and the rest is measured.

    Args:
        build: Gives the network in float32 on the CPU.
        cost: What is timed.
        devices: Where.
        clock: Gives seconds on a CPU. ``time.process_time`` leaves out what others take of a busy machine, but adds up
            the seconds of all threads.

    Yields:
        One record for each combination.
    """
    for device in devices:
        for precision in cost.precisions:
            for height, width in cost.sizes:
                for mode in cost.modes:
                    latency = Latency(device_name(device), precision, mode, cost.batch, height, width, cost.runs)
                    try:
                        _measure(build(), latency, cost, device, clock)
                    except Exception as error:
                        latency.error = one_sentence(error)
                    try:
                        # A compiled network refers to itself: what it holds would count for the next one.
                        release_memory(device)
                    except Exception as error:
                        latency.error = latency.error or one_sentence(error)
                    yield latency


def one_sentence(error: Exception) -> str:
    """Describe an error in one line."""
    return f"{type(error).__name__}: {first_line(error) or 'no message'}"[:300]


def _measure(
    restorer: Restorer, latency: Latency, cost: Cost, device: torch.device, clock: Callable[[], float]
) -> None:
    layout = torch.channels_last if cost.channels_last else torch.contiguous_format
    dtype = DTYPES[latency.dtype]
    restorer.to(device=device, dtype=dtype)
    lay_out(restorer, layout)
    picture = torch.rand(latency.batch, 3, latency.height, latency.width, generator=torch.Generator().manual_seed(0))
    picture = picture.to(device=device, dtype=dtype, memory_format=layout)
    benchmark = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        with torch.no_grad(), arithmetic(latency.dtype):
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            one_pass = _prepare(restorer, picture, latency.mode)
            for _ in range(cost.warm_up):
                one_pass()
            on_gpu = device.type == "cuda"
            milliseconds = _time_cuda(one_pass, cost.runs) if on_gpu else _time_cpu(one_pass, cost.runs, clock)
    finally:
        torch.backends.cudnn.benchmark = benchmark
    median, p10, p90 = np.percentile(milliseconds, (50, 10, 90))
    latency.median_ms, latency.p10_ms, latency.p90_ms = float(median), float(p10), float(p90)
    latency.frames_per_second = 1000 * latency.batch * len(milliseconds) / sum(milliseconds)
    if device.type == "cuda":
        latency.peak_memory_mib = torch.cuda.max_memory_allocated(device) / 2**20


def _prepare(restorer: Restorer, picture: Tensor, mode: str) -> Pass:
    if mode == "compiled":
        torch.compiler.reset()
        # The mode with the least overhead replays CUDA graphs, which a CPU does not have.
        # In place: the wrapper around the network is padding and cutting into tiles, of which there may be many.
        restorer.network.compile(mode="reduce-overhead" if picture.is_cuda else "default", dynamic=False)
    if mode == "cuda_graph":
        return _capture(restorer, picture)
    if mode == "optimized":
        compiles = picture.is_cuda and best_acceleration(picture.device).compile
        tried = treatments_for(picture.device, compiles)
        restorer.network = optimize(restorer.network, _as_network_sees_it(restorer, picture), treatments=tried)
    return lambda: restorer(picture)


def _as_network_sees_it(restorer: Restorer, picture: Tensor) -> Tensor:
    tile = restorer.tile
    return pad_to_multiple(picture if tile is None else picture[..., : tile.size, : tile.size], restorer.size_multiple)


def _capture(restorer: Restorer, picture: Tensor) -> Pass:
    if not picture.is_cuda:
        raise RuntimeError("a CUDA graph needs an NVIDIA GPU")
    side = SideStream(picture.device)
    with side.current():
        # Libraries choose their algorithms and workspaces before the capture.
        for _ in range(3):
            restorer(picture)
    output, replay_graph = capture(lambda: restorer(picture), side)

    def replay() -> Tensor:
        replay_graph()
        return output

    return replay


def _time_cuda(one_pass: Pass, runs: int) -> list[float]:
    """Milliseconds of each pass, between events that the GPU records itself."""
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(runs)]
    torch.cuda.synchronize()
    for start, end in events:
        start.record()
        one_pass()
        end.record()
    torch.cuda.synchronize()
    return [start.elapsed_time(end) for start, end in events]


def _time_cpu(one_pass: Pass, runs: int, clock: Callable[[], float]) -> list[float]:
    milliseconds = []
    for _ in range(runs):
        start = clock()
        one_pass()
        milliseconds.append(1000 * (clock() - start))
    return milliseconds
