"""Real-ESRGAN's models without a GPU."""

from types import SimpleNamespace

import pytest
import torch
from basicsr.models import realesrgan_model, realesrnet_model
from basicsr.utils.diffjpeg import DiffJPEG

from macr_plugin.basicsr_compat import degradation
from macr_plugin.errors import InputError

MODELS = [realesrnet_model.RealESRNetModel, realesrgan_model.RealESRGANModel]


@pytest.mark.parametrize("model", MODELS)
def test_a_full_pool_gives_back_what_it_took(model, pretend_gpus):
    pretend_gpus(0)
    degradation.patch_degradation_on_cpu()
    run = SimpleNamespace(queue_size=4, lq=torch.zeros(0), gt=torch.zeros(0))
    taken = []
    for number in range(3):
        run.lq, run.gt = torch.full((2, 3, 4, 4), float(number)), torch.full((2, 3, 8, 8), float(number))
        model._dequeue_and_enqueue(run)
        taken.append(run.lq[0, 0, 0, 0].item())
    assert taken[:2] == [0, 1]
    assert taken[2] in (0, 1), "one from the pool"
    assert run.queue_gt.shape == (4, 3, 8, 8)


@pytest.mark.parametrize("model", MODELS)
def test_a_pool_of_other_than_whole_batches_is_refused(model, pretend_gpus):
    pretend_gpus(0)
    degradation.patch_degradation_on_cpu()
    with pytest.raises(InputError, match="queue_size 5 is no multiple of the batch of 2"):
        model._dequeue_and_enqueue(
            SimpleNamespace(queue_size=5, lq=torch.zeros(2, 3, 4, 4), gt=torch.zeros(2, 3, 8, 8))
        )


def test_compression_stays_on_the_cpu_and_is_the_same(pretend_gpus):
    pretend_gpus(0)
    degradation.patch_degradation_on_cpu()
    picture = torch.rand(1, 3, 32, 32)
    for module in (realesrnet_model, realesrgan_model):
        patched = module.DiffJPEG(differentiable=False).cuda()
        assert torch.equal(patched(picture, quality=50), DiffJPEG(differentiable=False)(picture, quality=50))
        module.USMSharp().cuda()


def test_a_picture_of_channels_last_is_filtered(pretend_gpus):
    pretend_gpus(0)
    degradation.patch_degradation_on_cpu()
    picture, kernels = torch.rand(2, 3, 16, 16), torch.rand(2, 5, 5)
    expected = realesrnet_model.filter2D(picture, kernels)
    assert torch.equal(realesrnet_model.filter2D(picture.to(memory_format=torch.channels_last), kernels), expected)


def test_a_gpu_is_used_where_there_is_one(pretend_gpus):
    pretend_gpus(1)
    stock = realesrnet_model.DiffJPEG
    degradation.patch_degradation_on_cpu()
    assert realesrnet_model.DiffJPEG is stock
