"""Accelerated steps against the plain step, on the CPU as far as it goes; a stand-in plays the CUDA graph."""

import contextlib
import copy
import functools

import pytest
import torch
from basicsr.utils.registry import ARCH_REGISTRY
from log_lines import warnings_of
from torch import nn

from macr_plugin.errors import InputError
from macr_plugin.models import multiscale_model, training_step
from macr_plugin.models.acceleration import Acceleration
from macr_plugin.models.training_step import (
    WARM_UP_STEPS,
    DeviceLearningRates,
    TrainingStep,
    average,
    fused_update,
    keep_switches,
)

CPU = torch.device("cpu")


def test_learning_rates_follow_schedulers_and_the_warm_up(build):
    """BasicSR's warm-up puts plain numbers into the optimizer, which must stay plain numbers."""
    model = build(scheduler={"type": "MultiStepLR", "milestones": [6], "gamma": 0.5})
    rates = DeviceLearningRates(model.optimizer_g, CPU)
    seen, plain = [], []
    for iteration in range(1, 9):
        model.optimizer_g.step()
        model.update_learning_rate(iteration, warmup_iter=4)
        rates.follow()
        with rates.in_place():
            rate = model.optimizer_g.param_groups[0]["lr"]
            assert isinstance(rate, torch.Tensor)
            seen.append(rate.item())
        plain += model.get_current_learning_rate()
    assert all(isinstance(rate, float) for rate in plain)
    assert seen == pytest.approx(plain, rel=1e-6)
    assert plain[:3] == pytest.approx([2.5e-4, 5e-4, 7.5e-4])
    assert plain[-1] == plain[3] / 2


def train(model, batch, steps):
    for iteration in range(1, steps + 1):
        model.update_learning_rate(iteration, warmup_iter=2)
        model.feed_data(batch)
        model.optimize_parameters(iteration)
    return model


def test_a_state_of_a_captured_run_goes_on_without_one(build, batch):
    """Its optimizer was fused and capturable, which a plain step on a CPU could not even start with."""
    model = train(build(), batch, 2)
    state = {
        "optimizers": [copy.deepcopy(model.optimizer_g.state_dict())],
        "schedulers": [scheduler.state_dict() for scheduler in model.schedulers],
    }
    state["optimizers"][0]["param_groups"][0].update(capturable=True, fused=True)
    again = build()
    again.net_g.load_state_dict(model.net_g.state_dict())
    again.resume_training(state)
    group = again.optimizer_g.param_groups[0]
    assert (group["capturable"], group["fused"]) == (False, None)
    for one in (model, again):
        train(one, batch, 1)
    for ours, theirs in zip(again.net_g.parameters(), model.net_g.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_plain_state_goes_on_in_a_fused_run():
    weight = nn.Parameter(torch.ones(3))
    plain, fused = torch.optim.Adam([weight], 1e-2), torch.optim.Adam([weight], 1e-2, fused=True)
    weight.grad = torch.ones(3)
    plain.step()
    state = copy.deepcopy(plain.state_dict())
    state["state"][0]["step"] = 1.0
    with keep_switches([fused]):
        fused.load_state_dict(state)
    assert fused.param_groups[0]["fused"] is True
    assert torch.equal(fused.state[weight]["step"], torch.tensor(1.0))
    fused.step()


class GraphStandIn:
    """Plays ``cuda_graphs.capture`` on a CPU: nothing of the captured work is done, replays do it in the same memory.

    Args:
        model: Whose weights, averages and optimizer state a capture leaves as they were.
    """

    def __init__(self, model):
        self.model = model
        self.captures = 0
        self.replays = 0

    def state(self):
        modules = [self.model.net_g, *([self.model.net_g_ema] if hasattr(self.model, "net_g_ema") else [])]
        values = [value for module in modules for value in module.state_dict().values()]
        return values + [
            value
            for state in self.model.optimizer_g.state.values()
            for value in state.values()
            if isinstance(value, torch.Tensor)
        ]

    def __call__(self, function, side):
        self.captures += 1
        before = [value.clone() for value in self.state()]
        output = function()
        for value, old in zip(self.state(), before, strict=True):
            value.copy_(old)
        weights = list(self.model.net_g.parameters())
        gradients = [weight.grad for weight in weights]
        rates = [group["lr"] for group in self.model.optimizer_g.param_groups]

        def replay():
            self.replays += 1
            plain = [group["lr"] for group in self.model.optimizer_g.param_groups]
            for group, rate in zip(self.model.optimizer_g.param_groups, rates, strict=True):
                group["lr"] = rate
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.grad = gradient
            fresh = function()
            for group, number in zip(self.model.optimizer_g.param_groups, plain, strict=True):
                group["lr"] = number
            for weight, gradient in zip(weights, gradients, strict=True):
                gradient.copy_(weight.grad)
            if output is not None:
                output.restored.copy_(fresh.restored)
                for name, loss in fresh.losses.items():
                    output.losses[name].copy_(loss)

        return output, replay


def captured(model, monkeypatch, processes=1):
    """Let a model take captured steps, with a stand-in for the graph."""
    stand_in = GraphStandIn(model)
    monkeypatch.setattr(training_step, "capture", stand_in)
    model.acceleration = Acceleration(cuda_graph=True)
    model.training_step = TrainingStep(
        model.acceleration,
        model.restore_and_compare,
        model.optimizer_g,
        model.update_average,
        model.grad_clip_norm,
        CPU,
        processes,
    )
    return stand_in


RECIPE = {
    "ema_decay": 0.9,
    "grad_clip_norm": 0.5,
    "scheduler": {"type": "CosineAnnealingRestartLR", "periods": [20], "eta_min": 1e-5},
}


@pytest.mark.parametrize("processes", [1, 2])
def test_captured_steps_equal_plain_ones(build, monkeypatch, processes):
    """Warm-up, schedule, clipping, averaged weights, and a batch of another shape in between."""
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda flat: flat.mul_(2))
    generator = torch.Generator().manual_seed(3)
    batches = [
        {name: torch.rand(2, 3, *size, generator=generator) for name in ("lq", "gt")}
        for size in [(32, 40)] * 6 + [(24, 32)] + [(32, 40)] * 5
    ]
    plain, ours = build(**copy.deepcopy(RECIPE)), build(**copy.deepcopy(RECIPE))
    graph = captured(ours, monkeypatch, processes)
    for iteration, batch in enumerate(batches, 1):
        for model in (plain, ours):
            model.update_learning_rate(iteration, warmup_iter=5)
            model.feed_data(batch)
            model.optimize_parameters(iteration)
        assert ours.output.shape == batch["lq"].shape
        assert ours.get_current_log() == pytest.approx(plain.get_current_log(), rel=1e-5)
    assert graph.captures == processes
    assert graph.replays == processes * (len(batches) - WARM_UP_STEPS - 1)
    for module in ("net_g", "net_g_ema"):
        for one, other in zip(getattr(ours, module).parameters(), getattr(plain, module).parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_what_cannot_be_captured_runs_eagerly_after_one_warning(build, batch, monkeypatch, log):
    plain, ours = train(build(), batch, 6), build()
    captured(ours, monkeypatch)

    def refuse(function, side):
        raise RuntimeError("operation not permitted when stream is capturing\nmore lines")

    monkeypatch.setattr(training_step, "capture", refuse)
    train(ours, batch, 6)
    assert warnings_of(log) == [
        "train.acceleration.cuda_graph failed (operation not permitted when stream is capturing): the training runs "
        "one operation at a time"
    ]
    for one, other in zip(ours.net_g.parameters(), plain.net_g.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.fixture
def fast_compiler(monkeypatch):
    """The whole of torch.compile but its last stage, which takes a minute on a CPU; graph breaks are errors."""
    original = torch.compile
    monkeypatch.setattr(torch, "compile", functools.partial(original, backend="aot_eager", fullgraph=True))
    yield
    torch.compiler.reset()


def test_compiled_steps_equal_plain_ones(build, fast_compiler, log, tmp_path):
    """One graph without a break, for the losses too; the checkpoint's keys and the validation know nothing of it."""
    generator = torch.Generator().manual_seed(3)
    batch = {name: torch.rand(1, 3, 48, 48, generator=generator) for name in ("lq", "gt")}
    recipe = {**RECIPE, "pixel_opt": {"type": "MACRLoss"}}
    plain = train(build(**copy.deepcopy(recipe)), batch, 4)
    ours = train(build(acceleration={"compile": True}, **copy.deepcopy(recipe)), batch, 4)
    assert warnings_of(log) == []
    assert ours.get_current_log() == pytest.approx(plain.get_current_log(), rel=1e-5)
    ours.save(epoch=0, current_iter=4)
    weights = torch.load(tmp_path / "models" / "net_g_4.pth", weights_only=True)
    assert list(weights["params"]) == list(plain.net_g.state_dict())
    ours.feed_data({"lq": torch.rand(1, 3, 37, 51)})
    ours.test()
    assert ours.output.shape == (1, 3, 37, 51)


@pytest.mark.parametrize("breaks_in", ["forward", "backward"])
def test_what_cannot_be_compiled_runs_eagerly_after_one_warning(build, batch, monkeypatch, log, breaks_in):
    class BreaksInBackward(torch.autograd.Function):
        @staticmethod
        def forward(ctx, value):
            return value.clone()

        @staticmethod
        def backward(ctx, gradient):
            raise RuntimeError("no compiler found\nmore lines")

    def broken_compiler(function, dynamic):
        def compiled(*pictures):
            if breaks_in == "forward":
                raise RuntimeError("no compiler found\nmore lines")
            total, losses, restored = function(*pictures)
            return BreaksInBackward.apply(total), losses, restored

        return compiled

    plain = train(build(), batch, 3)
    monkeypatch.setattr(torch, "compile", broken_compiler)
    ours = train(build(acceleration={"compile": True}), batch, 3)
    assert warnings_of(log) == ["train.acceleration.compile failed (no compiler found): the training runs without it"]
    for one, other in zip(ours.net_g.parameters(), plain.net_g.parameters(), strict=True):
        assert torch.equal(one, other)


def test_bad_input_is_no_reason_to_fall_back(build, batch, fast_compiler, log):
    model = build(acceleration={"compile": True})
    with pytest.raises(InputError, match=r"a network that deblurs keeps the size"):
        train(model, {"lq": batch["lq"], "gt": batch["gt"][..., :-8]}, 1)


def test_bf16_runs_the_network_and_not_the_losses(build, batch):
    model = build(acceleration={"precision": "bf16"}, pixel_opt={"type": "L1Loss"})
    seen = []
    model.net_g.reconstruct.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    train(model, batch, 1)
    assert set(seen) == {torch.bfloat16}
    assert {loss.dtype for loss in model.losses.values()} == {torch.float32}
    assert {weight.dtype for weight in model.net_g.parameters()} == {torch.float32}
    model.test()
    assert model.output.dtype == torch.float32
    assert seen[-1] == torch.bfloat16


def test_a_step_waits_for_nothing(build, batch, monkeypatch):
    """Losses stay tensors until somebody asks for the log."""
    model = build(ema_decay=0.9, grad_clip_norm=1.0)
    model.feed_data(batch)
    with monkeypatch.context() as context:
        for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__"):
            context.setattr(torch.Tensor, name, lambda self: pytest.fail("the host waited for the device"))
        # Adam of the CPU counts its steps on the host, one kernel for all weights counts them itself.
        context.setattr(model.optimizer_g, "step", lambda: None)
        model.optimize_parameters(1)
    log = model.get_current_log()
    assert all(isinstance(value, float) for value in log.values())
    assert log["l_pix"] == model.losses["l_pix"].item()


def test_channels_last_reaches_weights_and_averages(build, batch):
    model = build(acceleration={"channels_last": True}, ema_decay=0.9)
    train(model, batch, 2)
    for net in (model.net_g, model.net_g_ema):
        assert net.conv1.weight.is_contiguous(memory_format=torch.channels_last)


def test_what_waits_for_the_gpu_is_never_captured(build, batch, monkeypatch, log):
    """The last step before the capture is watched; it counts, and no step is taken twice."""
    plain, ours = train(build(), batch, 6), build()
    graph = captured(ours, monkeypatch)

    @contextlib.contextmanager
    def watch(device):
        places = []
        yield places
        places.append("arch.py:7")

    monkeypatch.setattr(training_step, "notice_waiting", watch)
    train(ours, batch, 6)
    assert graph.captures == 0
    assert warnings_of(log) == [
        "train.acceleration.cuda_graph failed (the step waits for the GPU at arch.py:7): the training runs one "
        "operation at a time"
    ]
    for one, other in zip(ours.net_g.parameters(), plain.net_g.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"capturable": True, "fused": True}),
        ({"betas": (0.9, 0.9)}, {"betas": (0.9, 0.9), "capturable": True, "fused": True}),
        ({"foreach": True}, {"foreach": True, "capturable": True}),
        ({"fused": False}, {"fused": False, "capturable": True}),
        ({"capturable": False}, {"capturable": False, "fused": True}),
    ],
)
def test_an_update_in_one_kernel_unless_the_options_choose(options, expected):
    assert fused_update(options) == expected


@pytest.mark.parametrize("optim_type", ["Adam", "AdamW"])
def test_optimizers_are_built_fused_where_the_update_shall_not_need_the_host(build, monkeypatch, optim_type):
    """Set after the construction, a loss scaler does not know, and reads from the device in every step."""
    monkeypatch.setattr(multiscale_model, "updates_on_device", lambda acceleration, device: True)
    # On a CPU a counter of steps on the device is refused.
    monkeypatch.setattr(
        multiscale_model, "fused_update", lambda options: {**fused_update(options), "capturable": False}
    )
    model = build(optim_g={"type": optim_type, "lr": 1e-3})
    assert model.optimizer_g._step_supports_amp_scaling
    assert model.optimizer_g.param_groups[0]["fused"]


def test_a_scaled_step_of_a_fused_optimizer_waits_for_nothing(monkeypatch):
    """What makes a step with fp16 fit for a graph; the scaler of the CPU stands in for that of a GPU."""
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 3, 3, padding=1)
    optimizer = torch.optim.Adam(layer.parameters(), 1e-2, fused=True)

    def loss_function(blurred, sharp):
        restored = layer(blurred)
        loss = (restored - sharp).abs().mean()
        return loss, {"l_pix": loss}, restored

    step = TrainingStep(Acceleration("fp16"), loss_function, optimizer, lambda: None, 0.5, CPU)
    pictures = torch.rand(2, 1, 3, 8, 8)
    before = layer.weight.detach().clone()
    with monkeypatch.context() as context:
        for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__"):
            context.setattr(torch.Tensor, name, lambda self: pytest.fail("the host waited for the device"))
        for _ in range(2):
            step(*pictures)
    assert not torch.equal(layer.weight, before)
    kept = layer.weight.detach().clone()
    step(pictures[0] * float("nan"), pictures[1])
    assert torch.equal(layer.weight, kept)
    assert step.scaler.get_scale() == 2**15


def test_averaging_over_processes_is_one_message(monkeypatch):
    sent = []
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda flat: sent.append(flat.shape) or flat.mul_(2))
    tensors = [torch.arange(6.0).reshape(2, 3), torch.ones(4, 2, 3, 3).to(memory_format=torch.channels_last)]
    expected = [tensor.clone() for tensor in tensors]
    average(tensors, 2)
    assert sent == [(6 + 72,)]
    for tensor, mean in zip(tensors, expected, strict=True):
        assert torch.equal(tensor, mean)
    assert tensors[1].is_contiguous(memory_format=torch.channels_last)


# ----------------------------------------------------------------------------------------------------------------------
# On a GPU
# ----------------------------------------------------------------------------------------------------------------------


class WaitsForTheDevice(nn.Module):
    """A network that no graph can capture."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        return self.layer(x) * (1 + 0 * x.mean().item())


@pytest.fixture
def network_that_waits():
    ARCH_REGISTRY._obj_map["WaitsForTheDevice"] = WaitsForTheDevice
    yield {"type": "WaitsForTheDevice"}
    del ARCH_REGISTRY._obj_map["WaitsForTheDevice"]


@pytest.fixture
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.cuda
def test_a_cuda_graph_equals_eager_steps(build, batch, deterministic):
    """float32, deterministic algorithms, 20 steps: weights and averages agree to 1e-5."""
    recipe = {**RECIPE, "pixel_opt": {"type": "L1Loss"}}
    models = [
        train(build(num_gpu=1, acceleration={"precision": "fp32", **extra}, **copy.deepcopy(recipe)), batch, 20)
        for extra in ({}, {"cuda_graph": True})
    ]
    assert models[1].training_step._graph is not None
    for module in ("net_g", "net_g_ema"):
        plain, ours = (getattr(model, module).state_dict() for model in models)
        for name in plain:
            torch.testing.assert_close(ours[name], plain[name], rtol=0, atol=1e-5)


@pytest.mark.cuda
def test_everything_automatic_on_a_gpu(build, batch, log):
    options = dict.fromkeys(("precision", "channels_last", "compile", "cuda_graph"), "auto")
    pinned = {name: (picture * 255).to(torch.uint8).pin_memory() for name, picture in batch.items()}
    model = train(build(num_gpu=1, acceleration=options, **copy.deepcopy(RECIPE)), pinned, 8)
    assert warnings_of(log) == []
    assert model.training_step._graph is not None
    plain = train(build(num_gpu=1, **copy.deepcopy(RECIPE)), pinned, 8)
    assert model.get_current_log()["l_pix"] == pytest.approx(plain.get_current_log()["l_pix"], rel=0.01)


@pytest.mark.cuda
def test_a_step_that_waits_leaves_a_run_that_goes_on(build, batch, log, network_that_waits):
    model = train(build(network_that_waits, num_gpu=1, acceleration={"cuda_graph": True}), batch, 8)
    assert len(warnings_of(log)) == 1
    assert "the step waits for the GPU at" in warnings_of(log)[0]
    assert torch.isfinite(model.losses["l_pix"])


@pytest.mark.cuda
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_no_step_waits_for_the_gpu(build, batch, precision):
    """20 steps, of which the first may: kernels are chosen and the scale is made there."""
    pinned = {name: (picture * 255).to(torch.uint8).pin_memory() for name, picture in batch.items()}
    model = train(build(num_gpu=1, acceleration={"precision": precision}, **copy.deepcopy(RECIPE)), pinned, 1)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for iteration in range(2, 22):
            model.feed_data(pinned)
            model.optimize_parameters(iteration)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.cuda
def test_fp16_steps_are_captured(build, batch, log):
    models = [
        train(
            build(num_gpu=1, acceleration={"precision": "fp16", "cuda_graph": graph}, **copy.deepcopy(RECIPE)),
            batch,
            12,
        )
        for graph in (False, True)
    ]
    assert warnings_of(log) == []
    assert models[1].training_step._graph is not None
    plain, ours = (model.get_current_log()["l_pix"] for model in models)
    assert ours == pytest.approx(plain, rel=0.02)


@pytest.mark.cuda
def test_resume_between_modes_on_a_gpu(build, batch, tmp_path):
    """Eager, captured, eager again: the same weights as an eager run without a stop."""
    uninterrupted = train(build(num_gpu=1, acceleration={"precision": "fp32"}), batch, 18)
    weights = state = None
    for cuda_graph in (False, True, False):
        model = build(num_gpu=1, acceleration={"precision": "fp32", "cuda_graph": cuda_graph})
        if state is not None:
            model.net_g.load_state_dict(weights)
            model.resume_training(state)
        for iteration in range(6):
            model.update_learning_rate(2 + iteration)
            model.feed_data(batch)
            model.optimize_parameters(iteration)
        assert (model.training_step._graph is not None) == cuda_graph
        model.save_training_state(0, 6)
        weights = model.net_g.state_dict()
        state = torch.load(tmp_path / "training_states" / "6.state", weights_only=True, map_location="cpu")
    for ours, theirs in zip(model.net_g.parameters(), uninterrupted.net_g.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.cuda
def test_fp16_scales_its_loss_and_keeps_the_scale(build, batch, tmp_path):
    model = train(build(num_gpu=1, acceleration={"precision": "fp16"}, grad_clip_norm=1.0), batch, 4)
    assert model.training_step.scaler.get_scale() > 1
    model.save_training_state(0, 4)
    again = build(num_gpu=1, acceleration={"precision": "fp16"})
    again.resume_training(torch.load(tmp_path / "training_states" / "4.state", weights_only=True))
    assert again.training_step.scaler.state_dict() == model.training_step.scaler.state_dict()
