"""Accelerated training through BasicSR's loop follows the plain one."""

import re

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.slow

ITERATIONS = 500
AUTO = dict.fromkeys(("precision", "channels_last", "compile", "cuda_graph"), "auto")


def smoothed_losses(output):
    """Losses of every iteration, averaged over 50."""
    losses = [float(value) for value in re.findall(r"l_pix: (\S+)", output)]
    assert len(losses) == ITERATIONS
    return np.convolve(losses, np.full(50, 1 / 50), mode="valid")


@pytest.mark.parametrize(
    "acceleration",
    [
        {"precision": "bf16", "channels_last": True},
        pytest.param(AUTO, marks=pytest.mark.cuda, id="everything automatic"),
    ],
)
def test_the_loss_curve_stays_within_one_percent(working_folder, tiny_options, run_training, acceleration):
    curves = []
    for chosen in ({"precision": "fp32"}, acceleration):
        options = tiny_options(
            datasets__train__gt_size=24,
            network_g__num_scales=2,
            train__scale_weights=[1, 1],
            train__total_iter=ITERATIONS,
            train__acceleration=chosen,
            val__val_freq=10 * ITERATIONS,
            logger__save_checkpoint_freq=10 * ITERATIONS,
        )
        status, output = run_training("-opt", options, timeout=900)
        assert status == 0, output
        assert "failed (" not in output
        curves.append(smoothed_losses(output))
    plain, accelerated = curves
    assert plain[-1] < 0.9 * plain[0], "it learns"
    assert np.abs(accelerated / plain - 1).max() < 0.01


def test_a_real_compiler_in_a_real_run(working_folder, tiny_options, run_training):
    """Plain, compiled, plain again, each resuming from the one before; the weights have their usual names."""
    for iterations, acceleration in ((3, {}), (6, {"compile": True}), (9, {})):
        options = tiny_options(
            network_g__num_scales=1,
            train__scale_weights=[1],
            train__total_iter=iterations,
            train__acceleration=acceleration,
        )
        status, output = run_training("-opt", options, "--auto_resume", timeout=900)
        assert status == 0, output
        assert "train.acceleration" not in output, "no warning"
    weights = torch.load("experiments/tiny/models/net_g_9.pth", weights_only=True)
    assert all(name.split(".")[0] not in ("module", "_orig_mod") for name in weights["params"])
