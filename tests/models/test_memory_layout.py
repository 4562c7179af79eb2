import socket

import pytest
import torch
from torch import nn

from macr_plugin.benchmark.measuring.operations import count_operations
from macr_plugin.models.memory_layout import change_at_once, lay_out


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1), nn.ConvTranspose2d(4, 3, 1), nn.ReLU())


def test_other_layouts_and_values_stay():
    plain, ours = network(), lay_out(network(), torch.preserve_format)
    assert [weight.stride() for weight in ours.parameters()] == [weight.stride() for weight in plain.parameters()]
    last = lay_out(network(), torch.channels_last)
    for one, other in zip(last.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one, other)
        assert one.ndim < 4 or one.is_contiguous(memory_format=torch.channels_last)
    assert last[1].weight.stride() == (8, 1, 8, 8)
    assert last[2].weight.stride() == (3, 1, 3, 3)


@pytest.fixture
def one_process():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    torch.distributed.init_process_group("gloo", init_method=f"tcp://localhost:{port}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("error:Grad strides do not match")
def test_gradients_have_the_strides_of_their_buckets(one_process):
    """DistributedDataParallel says once in a process that it copies each gradient, and does it silently then."""
    wrapped = nn.parallel.DistributedDataParallel(lay_out(network(), torch.channels_last))
    wrapped(torch.rand(1, 3, 8, 8).to(memory_format=torch.channels_last)).sum().backward()
    for weight in wrapped.parameters():
        assert weight.grad.stride() == weight.stride()


def test_many_tensors_change_in_few_operations():
    layers = [lay_out(network(), torch.channels_last) for _ in range(5)]
    gradients = [torch.randn_like(weight) for layer in layers for weight in layer.parameters()]
    gradients += [torch.tensor(3.0), torch.randn(6, 8)[:, ::2], torch.randn(4, 5).t()]
    expected, strides = [2 * gradient for gradient in gradients], [gradient.stride() for gradient in gradients]
    change_at_once(gradients, lambda values: values.mul_(2))
    for gradient, twice, stride in zip(gradients, expected, strides, strict=True):
        assert torch.equal(gradient, twice)
        assert gradient.stride() == stride
    few, many = gradients[:2], gradients[:30]
    assert count_operations(lambda: change_at_once(few, torch.zero_)) == 3
    assert count_operations(lambda: change_at_once(many, torch.zero_)) == 3
