"""Finding and loading the state to resume from."""

from pathlib import Path

import basicsr.train
import pytest
import torch

from macr_plugin.basicsr_compat import resume
from macr_plugin.errors import InputError


def test_auto_resume_looks_where_the_run_writes(run, tmp_path, pretend_gpus, patch_options):
    pretend_gpus(1)
    states = tmp_path / "elsewhere" / "experiments" / "run" / "training_states"
    states.mkdir(parents=True)
    for iteration in (5, 20, 100):
        (states / f"{iteration}.state").touch()
    (states / "unfinished.state").touch()
    arguments = {"arguments": ["--auto_resume"], "root": tmp_path / "elsewhere"}
    assert basicsr.train.load_resume_state(run(**arguments)) is None, "BasicSR looks below the current directory"
    patch_options()
    assert run(**arguments)["path"]["resume_state"] == str(states / "100.state")


def test_auto_resume_without_a_state_starts_anew(run, capsys, patch_options):
    patch_options()
    opt = run(arguments=["--auto_resume"])
    assert not opt["path"].get("resume_state")
    assert "starting anew" in capsys.readouterr().out


def test_basicsr_script_cannot_resume_on_a_cpu(run, monkeypatch, pretend_gpus, patch_options):
    pretend_gpus(0)
    patch_options()
    assert run({"path": {"resume_state": "a.state"}})["path"]["resume_state"] == "a.state"
    monkeypatch.setattr(resume, "is_basicsr_program", lambda: True)
    with pytest.raises(InputError, match=r"python -m macr_plugin.train -opt .*options.yml --auto_resume"):
        run({"path": {"resume_state": "a.state"}})
    # A BasicSR whose script resumes on a CPU is left alone.
    monkeypatch.setattr(basicsr.train, "load_resume_state", lambda opt: None)
    run({"path": {"resume_state": "a.state"}})


def resume_options(tmp_path, state):
    return {"auto_resume": False, "network_g": {}, "path": {"resume_state": str(state), "models": str(tmp_path)}}


def test_resume_on_a_cpu(tmp_path, pretend_gpus):
    pretend_gpus(0)
    torch.save({"epoch": 2, "iter": 7, "optimizers": [{"state": {0: torch.ones(3)}}]}, tmp_path / "7.state")
    opt = resume_options(tmp_path, tmp_path / "7.state")
    with pytest.raises((RuntimeError, AssertionError)):
        basicsr.train.load_resume_state(opt)
    resume.patch_resume()
    state = basicsr.train.load_resume_state(opt)
    assert (state["epoch"], state["iter"]) == (2, 7)
    assert torch.equal(state["optimizers"][0]["state"][0], torch.ones(3))
    assert opt["path"]["pretrain_network_g"] == str(tmp_path / "net_g_7.pth")


def test_nothing_to_resume():
    assert resume.load_resume_state({"path": {"resume_state": None}}) is None


def test_damaged_and_missing_states(tmp_path):
    torch.save({"epoch": 2, "iter": 7, "optimizers": [torch.ones(1000)]}, tmp_path / "7.state")
    whole = (tmp_path / "7.state").read_bytes()
    for length in (0, 100, len(whole) // 2):
        (tmp_path / "8.state").write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"8.state is damaged"):
            resume.load_resume_state(resume_options(tmp_path, tmp_path / "8.state"))
    with pytest.raises(InputError, match=r"9.state: No such file"):
        resume.load_resume_state(resume_options(tmp_path, tmp_path / "9.state"))


def test_a_patched_basicsr_keeps_its_resume(monkeypatch):
    def resume_anywhere(opt):
        return None

    monkeypatch.setattr(basicsr.train, "load_resume_state", resume_anywhere)
    resume.patch_resume()
    assert basicsr.train.load_resume_state is resume_anywhere


def write_pair(states, iteration):
    models = states.parent / "models"
    for folder in (states, models):
        folder.mkdir(parents=True, exist_ok=True)
    torch.save({"epoch": 0, "iter": iteration, "optimizers": [torch.ones(500)]}, states / f"{iteration}.state")
    torch.save({"params": {"weight": torch.ones(500)}}, models / f"net_g_{iteration}.pth")


def cut(path):
    path.write_bytes(path.read_bytes()[:-200])


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "removed": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut": cut,
    "a bit flipped in a tensor": flip_a_bit,
    "a page of an error": lambda path: path.write_text("<html>404</html>"),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", ["training_states/9.state", "models/net_g_9.pth"])
def test_auto_resume_steps_back_over_damaged_pairs(run, patch_options, pretend_gpus, tmp_path, capsys, damage, file):
    pretend_gpus(1)
    states = tmp_path / "experiments" / "run" / "training_states"
    for iteration in (3, 6, 9):
        write_pair(states, iteration)
    patch_options()
    opt = {"network_g": {"type": "MACR"}}
    assert run(opt, ["--auto_resume"])["path"]["resume_state"] == str(states / "9.state")
    DAMAGES[damage](states.parent / file)
    capsys.readouterr()
    assert run(opt, ["--auto_resume"])["path"]["resume_state"] == str(states / "6.state")
    fault = "is missing" if damage == "removed" else "is damaged"
    said = capsys.readouterr().err
    if (states / "9.state").exists():
        assert said.endswith(f"--auto_resume skips step 9: {states.parent / file} {fault}.\n")


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_explicit_state_with_damaged_weights_is_refused(tmp_path, damage):
    """The weights belong to the iteration in the state, whatever its file is called."""
    states, models = tmp_path / "training_states", tmp_path / "models"
    write_pair(states, 9)
    state = (states / "9.state").rename(states / "kept.state")
    resume.patch_resume()
    resume.patch_resumed_weights()
    opt = resume_options(models, state)
    assert resume.load_resume_state(opt)["iter"] == 9
    DAMAGES[damage](models / "net_g_9.pth")
    fault = "is missing" if damage == "removed" else "is damaged"
    with pytest.raises(InputError) as error:
        resume.load_resume_state(opt)
    assert str(error.value) == (
        f"{models / 'net_g_9.pth'} {fault}, so {state} cannot be resumed from: bring the file back, "
        "or let --auto_resume find the newest whole state"
    )
    opt["path"]["ignore_resume_networks"] = ["network_g"]
    assert resume.load_resume_state(opt)["iter"] == 9


def test_only_networks_that_the_model_saves_are_looked_for(tmp_path):
    """Stock options may describe a network that the model neither saves nor loads."""
    models = tmp_path / "models"
    write_pair(tmp_path / "training_states", 9)
    opt = {**resume_options(models, "9.state"), "network_d": {}}
    assert resume.weights_of(opt, Path("9.state")) == [models / "net_g_9.pth"]
    (models / "net_d_8.pth").touch()
    assert resume.weights_of(opt, Path("9.state")) == [models / "net_g_9.pth", models / "net_d_9.pth"]


def test_weights_of_an_old_torch_are_taken(tmp_path):
    torch.save({"params": torch.ones(3)}, tmp_path / "net_g_1.pth", _use_new_zipfile_serialization=False)
    assert resume.fault_of(tmp_path / "net_g_1.pth") is None
