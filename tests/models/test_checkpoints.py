"""Checkpoints: exact resumes, cleaning up, the newest kept."""

import random
import resource
import threading
from collections import Counter

import numpy as np
import pytest
import torch

from macr_plugin.errors import InputError
from macr_plugin.models.checkpoints import (
    CheckpointWriter,
    random_states,
    remove_older,
    restore_random_states,
    save_atomically,
)


def draws():
    return random.random(), np.random.random(), torch.rand(3).tolist()


def test_random_generators_go_on_where_they_were(tmp_path):
    torch.save(random_states(), tmp_path / "states")
    expected = draws()
    restore_random_states(torch.load(tmp_path / "states", weights_only=True))
    assert draws() == expected


def test_a_disk_that_takes_no_more_says_why_and_the_old_file_stays(tmp_path):
    path = tmp_path / "net_g_5.pth"
    save_atomically({"params": torch.zeros(3)}, path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"net_g_5.pth could not be written \(.*File too large.*free some disk"):
            save_atomically({str(number): torch.ones(100, 100) for number in range(5)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert torch.load(path)["params"].tolist() == [0, 0, 0]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.cuda
def test_the_generator_of_the_gpu_goes_on_where_it_was(tmp_path):
    torch.save(random_states(), tmp_path / "states")
    expected = torch.rand(3, device="cuda")
    restore_random_states(torch.load(tmp_path / "states", weights_only=True))
    assert torch.equal(torch.rand(3, device="cuda"), expected)


def test_a_resumed_model_is_that_of_an_undisturbed_training(build, batch, tmp_path):
    """Weights, average, optimizer and random numbers, bit for bit."""

    def train(model, first, last):
        for iteration in range(first, last + 1):
            noise = 0.1 * torch.rand_like(batch["lq"])
            model.feed_data({**batch, "lq": batch["lq"] + noise})
            model.update_learning_rate(iteration)
            model.optimize_parameters(iteration)

    options = {"ema_decay": 0.9, "scheduler": {"type": "MultiStepLR", "milestones": [2], "gamma": 0.5}}
    undisturbed = build(**options)
    train(undisturbed, 1, 6)
    stopped = build(**options)
    train(stopped, 1, 3)
    stopped.best_metric_results = {"val": {"psnr": {"better": "higher", "val": 30.0, "iter": 3}}}
    stopped.save(0, 3)
    torch.rand(5)
    resumed = build(**options)
    for net, key in ((resumed.net_g, "params"), (resumed.net_g_ema, "params_ema")):
        net.load_state_dict(torch.load(tmp_path / "models" / "net_g_3.pth", weights_only=True)[key])
    resumed.resume_training(torch.load(tmp_path / "training_states" / "3.state", weights_only=True))
    assert resumed.best_metric_results == stopped.best_metric_results
    train(resumed, 4, 6)
    for name in ("net_g", "net_g_ema"):
        expected = getattr(undisturbed, name).state_dict()
        assert all(torch.equal(value, expected[key]) for key, value in getattr(resumed, name).state_dict().items())
    states = [model.optimizer_g.state_dict()["state"] for model in (undisturbed, resumed)]
    assert all(
        torch.equal(states[0][index][key], value) for index in states[1] for key, value in states[1][index].items()
    )


def test_leftovers_of_killed_processes_are_removed(build, tmp_path):
    build()
    leftovers = [tmp_path / "models" / ".net_g_3.pth.unfinished", tmp_path / "training_states" / ".3.state.unfinished"]
    for path in leftovers:
        path.touch()
    build()
    assert not any(path.exists() for path in leftovers)


def test_only_the_newest_are_kept(tmp_path):
    for iteration in (2, 10, 4):
        (tmp_path / f"{iteration}.state").touch()
        (tmp_path / f"net_g_{iteration}.pth").touch()
        (tmp_path / f"net_d_{iteration}.pth").touch()
    for name in ("net_g_latest.pth", "net_g_best.pth"):
        (tmp_path / name).touch()
    remove_older(tmp_path, tmp_path, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("10.state", "4.state", "net_d_10.pth", "net_d_4.pth", "net_g_10.pth", "net_g_4.pth"),
        *("net_g_best.pth", "net_g_latest.pth"),
    ]


def test_files_are_written_in_order_and_as_they_were_when_given(tmp_path):
    writer = CheckpointWriter(in_background=True)
    began, go_on = threading.Event(), threading.Event()
    writer.do(lambda: (began.set(), go_on.wait(10)))
    assert began.wait(10)
    weight, milestones = torch.ones(3), Counter([2, 2, 5])
    writer.save({"weights": [weight], "scheduler": {"milestones": milestones}}, tmp_path / "a")
    weight.zero_()
    milestones[2] = 7
    writer.do(lambda: (tmp_path / "b").touch())
    assert not list(tmp_path.iterdir()), "the training has gone on"
    go_on.set()
    writer.finish()
    content = torch.load(tmp_path / "a", weights_only=True)
    assert torch.equal(content["weights"][0], torch.ones(3))
    assert content["scheduler"]["milestones"] == Counter([2, 2, 5])
    assert (tmp_path / "a").stat().st_mtime_ns <= (tmp_path / "b").stat().st_mtime_ns


def test_an_error_of_the_thread_ends_the_training_and_nothing_follows_it(build, batch, tmp_path):
    model = build()
    model.writer = CheckpointWriter(in_background=True)
    (tmp_path / "models" / "net_g_3.pth").mkdir()
    model.save(0, 3)
    with pytest.raises(InputError, match=r"models/net_g_3.pth could not be written .*resume with --auto_resume"):
        model.writer.finish()
    assert not list((tmp_path / "training_states").iterdir()), "a state without its weights would look whole"
    with pytest.raises(InputError, match=r"net_g_3.pth could not be written"):
        model.update_learning_rate(4)


def test_outside_of_a_training_program_a_file_is_there_when_the_call_returns(build, tmp_path):
    build().save(0, 3)
    assert (tmp_path / "training_states" / "3.state").exists()


def test_a_validated_iteration_can_be_saved_again(build):
    """As a signal asks for, which comes after the validation of a step."""
    model = build()
    model.opt["datasets"] = {"val": {"name": "val"}}
    model.opt["val"]["val_freq"] = 3
    model.save(0, 3)
    assert model.postponed_save == (0, 3)
    model.save_after_validation("val", 3)
    assert model.postponed_save is None
    model.save(0, 3)
    assert model.postponed_save is None


def test_the_loss_scale_is_that_of_the_state(build, tmp_path):
    model = build()
    model.training_step.scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    model.training_step.scaler.scale(torch.ones(1))
    model.save(0, 3)
    resumed = build()
    resumed.training_step.scaler = torch.amp.GradScaler("cpu")
    resumed.resume_training(torch.load(tmp_path / "training_states" / "3.state", weights_only=True))
    assert resumed.training_step.scaler.get_scale() == 64.0
