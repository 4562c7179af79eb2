"""Adversarial training through BasicSR's own loop, in two processes, and its resume."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_two_processes_train_save_and_resume_both_networks(working_folder, tiny_options, run_training):
    def options(total_iter):
        return tiny_options(
            model_type="MultiScaleDeblurGANModel",
            network_d={"type": "DeepDeblurDiscriminator", "num_feat": 4},
            train__gan_opt={"type": "GANLoss", "gan_type": "vanilla", "loss_weight": 1e-4},
            train__optim_d={"type": "Adam", "lr": 1e-4},
            train__net_d_iters=2,
            train__total_iter=total_iter,
        )

    status, output = run_training("-opt", options(6), ranks=2)
    assert status == 0, output
    losses = [re.findall(r"(l_\w+|out_\w+): ", line) for line in output.splitlines() if "l_d_real" in line]
    discriminator_alone = ["l_d_real", "out_d_real", "l_d_fake", "out_d_fake"]
    network_too = ["l_pix", "l_pix_scale0", "l_pix_scale1", "l_pix_scale2", "l_g_gan", *discriminator_alone]
    assert losses == [discriminator_alone, network_too] * 3
    assert "# psnr:" in output
    models = Path("experiments/tiny/models")
    assert {path.name for path in models.glob("*_6.pth")} == {"net_g_6.pth", "net_d_6.pth"}
    status, output = run_training("-opt", options(8), "--auto_resume", ranks=2)
    assert status == 0, output
    assert "Loading DeepDeblurDiscriminator model from" in output
    assert "iter: 6." in output
    assert {path.name for path in models.glob("*_latest.pth")} == {"net_g_latest.pth", "net_d_latest.pth"}
