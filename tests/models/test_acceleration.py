"""How a run is accelerated: what the options ask for, what the device can do, and what ``auto`` takes."""

import pytest
import torch
from log_lines import warnings_of

from macr_plugin.errors import InputError
from macr_plugin.models import acceleration
from macr_plugin.models.acceleration import Acceleration, choose_acceleration, updates_on_device

CPU = torch.device("cpu")
CUDA = torch.device("cuda")


def test_without_the_block_everything_is_off(log):
    for options in (None, {}):
        assert choose_acceleration(options, CPU) == Acceleration()
    assert log.records == []
    assert Acceleration().memory_format is torch.preserve_format


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "half"}, r"train\.acceleration\.precision: half is unknown: choose one of auto, fp32, tf32, bf"),
        ({"precision": True}, r"train\.acceleration\.precision: True is unknown"),
        ({"compile": "yes"}, r"train\.acceleration\.compile: yes is unknown: choose one of auto, true, false"),
    ],
)
def test_unknown_values_are_named(options, message):
    with pytest.raises(InputError, match=message):
        choose_acceleration(options, CPU)


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": False, "avx2": True}, Acceleration(channels_last=True)),
        ({"avx512_bf16": True}, Acceleration("bf16", channels_last=True)),
        ({"avx512_bf16": False, "amx_bf16": True}, Acceleration("bf16", channels_last=True)),
    ],
)
def test_auto_on_a_cpu_takes_bf16_where_it_has_instructions_for_it(monkeypatch, log, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    options = dict.fromkeys(("precision", "channels_last", "compile", "cuda_graph"), "auto")
    assert choose_acceleration(options, CPU) == expected
    assert "auto on the CPU: precision, channels_last, compile, cuda_graph" in log.text
    assert warnings_of(log) == []


def test_what_a_cpu_cannot_do_is_off_with_a_warning_each(log):
    chosen = choose_acceleration({"precision": "tf32", "cuda_graph": True, "compile": True}, CPU)
    assert chosen == Acceleration(precision="fp32", compile=True)
    assert [message.split(":")[0] for message in warnings_of(log)] == [
        "train.acceleration.precision",
        "train.acceleration.cuda_graph needs an NVIDIA GPU",
    ]


BEST = Acceleration("bf16", channels_last=True, compile=True, cuda_graph=True)


@pytest.mark.parametrize(
    ("name", "capability", "has_bf16", "has_triton", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", (9, 0), True, True, BEST),
        ("NVIDIA GeForce RTX 3060", (8, 6), True, False, Acceleration("bf16", True, compile=False, cuda_graph=True)),
        ("NVIDIA GeForce RTX 2080 Ti", (7, 5), False, True, Acceleration("fp16", True, compile=True, cuda_graph=True)),
        ("Tesla V100-SXM2-16GB", (7, 0), False, True, Acceleration("fp16", True, compile=True, cuda_graph=True)),
        # The paper's card and its kin: no tensor cores, although the capability is that of the RTX 20 series.
        ("NVIDIA GeForce GTX 1660 Ti", (7, 5), False, True, Acceleration("fp32", compile=True, cuda_graph=True)),
        ("NVIDIA GeForce GTX 1650 with Max-Q Design", (7, 5), False, False, Acceleration("fp32", cuda_graph=True)),
        ("NVIDIA T1000 8GB", (7, 5), False, True, Acceleration("fp32", compile=True, cuda_graph=True)),
        ("NVIDIA GeForce MX450", (7, 5), False, True, Acceleration("fp32", compile=True, cuda_graph=True)),
        ("Tesla T4", (7, 5), False, True, Acceleration("fp16", True, compile=True, cuda_graph=True)),
        # Triton is there, and does not serve the card.
        ("NVIDIA GeForce GTX 1080 Ti", (6, 1), False, True, Acceleration("fp32", cuda_graph=True)),
    ],
)
def test_auto_takes_the_best_of_a_gpu(monkeypatch, log, name, capability, has_bf16, has_triton, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(acceleration, "has_triton_package", lambda: has_triton)
    options = dict.fromkeys(("precision", "channels_last", "compile", "cuda_graph"), "auto")
    assert choose_acceleration(options, CUDA) == expected
    assert f"auto on {name}" in log.text


def test_fp16_may_be_captured(log):
    """Its loss is rescaled and its update skipped on the device."""
    assert choose_acceleration({"precision": "fp16", "cuda_graph": True}, CUDA) == Acceleration("fp16", cuda_graph=True)
    assert warnings_of(log) == []


@pytest.mark.parametrize(
    ("chosen", "device", "expected"),
    [
        (Acceleration(), CUDA, False),
        (Acceleration("bf16"), CUDA, False),
        (Acceleration("fp16"), CUDA, True),
        (Acceleration(compile=True), CUDA, True),
        (Acceleration(cuda_graph=True), CUDA, True),
        (Acceleration(compile=True), CPU, False),
    ],
)
def test_which_updates_do_without_the_host(chosen, device, expected):
    assert updates_on_device(chosen, device) is expected


def test_weights_of_several_scales_are_cast_once():
    """In the cache of autocast, which is empty again when the context ends, so that no capture outlives its casts."""
    layer = torch.nn.Conv2d(3, 3, 3)
    picture = torch.rand(1, 3, 8, 8)
    counts = []
    for _ in range(2):
        with torch.profiler.profile() as profiler, Acceleration("bf16", cuda_graph=True).autocast(CPU):
            for _ in range(3):
                layer(picture)
        casts = [event for event in profiler.events() if event.name == "aten::_to_copy"]
        counts.append(len(casts))
    # Weight and bias once, the picture each time; and as often in the second context.
    assert counts == [5, 5]


@pytest.mark.parametrize(("precision", "allowed"), [("fp32", (False, False)), (None, (True, False))])
def test_tf32_is_off_in_fp32_and_untouched_by_default(build, precision, allowed):
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == (True, False)
    build(acceleration={"precision": precision})
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == allowed
