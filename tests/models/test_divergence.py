"""Losses and weights that are not finite: named, kept, never saved."""

import pytest
import torch

from macr_plugin.benchmark.measuring.operations import count_operations
from macr_plugin.errors import InputError
from macr_plugin.models.divergence import DivergenceWatch, drop_nonfinite_gradients


def poison(batch, value=float("nan")):
    return {**batch, "lq": torch.full_like(batch["lq"], value), "lq_path": ["scene/1", "scene/2"]}


def take_steps(model, batch, poisoned, steps=4):
    for iteration in range(1, steps + 1):
        model.feed_data(poison(batch) if iteration in poisoned else batch)
        model.optimize_parameters(iteration)


def test_a_loss_that_is_not_finite_stops_the_training_with_its_step_and_batch(build, batch, tmp_path):
    model = build()
    take_steps(model, batch, poisoned={2, 3})
    with pytest.raises(InputError, match=r"step 2 \(learning rate 0.001, pictures scene/1, scene/2\)") as error:
        model.get_current_log()
    assert "\n" not in str(error.value)
    kept = torch.load(tmp_path / "nonfinite_batch_2.pth", weights_only=True)
    assert kept["iter"] == 2
    assert kept["keys"] == ["scene/1", "scene/2"]
    assert kept["lq"].isnan().all()
    assert torch.equal(kept["gt"], batch["gt"])


def test_a_finite_training_leaves_nothing(build, batch, tmp_path):
    model = build()
    take_steps(model, batch, poisoned=())
    model.get_current_log()
    assert not list(tmp_path.glob("nonfinite*"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("part", ["l_g_pix", "l_d_fake", "out_d_real"])
def test_one_part_of_the_loss_is_enough(tmp_path, part, value):
    """The discriminator's loss alone, for one."""
    watch = DivergenceWatch(torch.device("cpu"), tmp_path)
    finite = {"l_g_pix": torch.tensor(1.0), "l_d_fake": torch.tensor(0.5), "out_d_real": torch.tensor(-2.0)}
    pictures = {"lq": torch.zeros(1, 3, 4, 4)}
    watch.observe(1, finite, pictures, ["a"], 1e-3)
    watch.check(print)
    watch.observe(2, {**finite, part: torch.tensor(value)}, pictures, ["b"], 1e-3)
    with pytest.raises(InputError, match=r"step 2 \(learning rate 0.001, pictures b\)"):
        watch.check(print)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nothing_that_is_not_finite_is_saved(build, batch, tmp_path, value):
    model = build(ema_decay=0.9)
    model.save(0, 1)
    good = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with torch.no_grad():
        next(model.net_g_ema.parameters()).view(-1)[0] = value
    with pytest.raises(InputError, match="is not finite"):
        model.save(0, 1)
    with pytest.raises(InputError, match="is not finite"):
        model.save(-1, -1)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == good


def test_skipped_steps_leave_finite_weights_and_are_counted(build, batch, tmp_path, caplog):
    model = build(on_nonfinite="skip")
    model_without = build(on_nonfinite="skip")
    take_steps(model, batch, poisoned={1})
    take_steps(model_without, batch, poisoned={1}, steps=1)
    initial = build()
    for skipped, weight in zip(model_without.net_g.parameters(), initial.net_g.parameters(), strict=True):
        assert torch.equal(skipped, weight), "Adam does not move on gradients of 0 at its first step"
    said = []
    model.watch.check(said.append)
    model.watch.check(said.append)
    assert said == ["train.on_nonfinite: skip: 1 steps so far had a loss that is not finite"]
    model.save(0, 4)
    assert (tmp_path / "models" / "net_g_4.pth").is_file()


def overflow_once(model):
    """Let the gradient of one weight overflow in the next step, whose loss is finite."""
    gradients = [float("inf")]
    weight = next(model.net_g.parameters())
    weight.register_hook(lambda gradient: gradient + gradients.pop() if gradients else gradient)


def weights_of(model):
    return [weight.detach().clone() for weight in model.net_g.parameters()]


def test_a_gradient_alone_that_is_not_finite_ends_the_training_unsaved(build, batch, tmp_path):
    model = build()
    model.save(0, 1)
    good = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    overflow_once(model)
    take_steps(model, batch, poisoned=(), steps=1)
    assert all(loss.isfinite() for loss in model.losses.values())
    with pytest.raises(InputError, match=r"step 1: the weight .* is not finite, so the last good files stay"):
        model.save(0, 1)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == good
    take_steps(model, batch, poisoned=(), steps=1)
    with pytest.raises(InputError, match="the loss is not finite"):
        model.get_current_log()


def test_a_gradient_alone_that_is_not_finite_is_skipped(build, batch):
    model = build(on_nonfinite="skip")
    before = weights_of(model)
    overflow_once(model)
    take_steps(model, batch, poisoned=(), steps=1)
    assert all(map(torch.equal, weights_of(model), before)), "Adam does not move on gradients of 0 at its first step"
    take_steps(model, batch, poisoned=(), steps=2)
    assert all(weight.isfinite().all() for weight in weights_of(model))
    assert not all(map(torch.equal, weights_of(model), before))


def test_a_step_that_the_loss_scaler_leaves_out_is_no_divergence(build, batch):
    """As fp16 overflows on a GPU until the scale fits; here by an overflow that is made."""
    model = build()
    model.training_step.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    before, said = weights_of(model), []
    overflow_once(model)
    take_steps(model, batch, poisoned=(), steps=1)
    assert all(map(torch.equal, weights_of(model), before))
    assert model.training_step.scaler.get_scale() == 512.0
    model.watch.check(said.append)
    assert said == []
    model.save(0, 1)
    take_steps(model, batch, poisoned=(), steps=1)
    assert not all(map(torch.equal, weights_of(model), before))


def test_another_reaction_is_refused(build):
    with pytest.raises(InputError, match=r"train.on_nonfinite: ignore: write stop or skip"):
        build(on_nonfinite="ignore")


def weights_with_gradients(count):
    """Weights, every second of them laid out channels last, and one that has no gradient."""
    weights = [torch.nn.Parameter(torch.ones(4, 2, 3, 3)) for _ in range(count)]
    for number, weight in enumerate(weights):
        layout = (torch.contiguous_format, torch.channels_last)[number % 2]
        weight.grad = torch.randn(weight.shape).to(memory_format=layout)
    return [*weights, torch.nn.Parameter(torch.ones(3))]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [0, 1, 5])
def test_one_value_that_is_not_finite_drops_all_gradients(value, place):
    weights = weights_with_gradients(6)
    kept = [weight.grad.clone() for weight in weights[:-1]]
    drop_nonfinite_gradients(weights)
    assert all(torch.equal(weight.grad, one) for weight, one in zip(weights, kept, strict=False))
    weights[place].grad[3, 1, 2, 2] = value
    drop_nonfinite_gradients(weights)
    assert all(torch.equal(weight.grad, torch.zeros(4, 2, 3, 3)) for weight in weights[:-1])
    assert weights[1].grad.is_contiguous(memory_format=torch.channels_last)
    assert weights[-1].grad is None


def test_dropping_gradients_takes_as_few_operations_for_many_weights():
    few, many = weights_with_gradients(2), weights_with_gradients(60)
    assert count_operations(lambda: drop_nonfinite_gradients(many)) == count_operations(
        lambda: drop_nonfinite_gradients(few)
    )
