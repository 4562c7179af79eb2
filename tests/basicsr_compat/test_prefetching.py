"""Batches copied ahead of their step."""

from unittest.mock import MagicMock

import torch

from macr_plugin.basicsr_compat import prefetching


class OnTheDevice(torch.Tensor):
    """A tensor that plays one of a GPU and notes who was said to use it."""

    is_cuda = True

    def record_stream(self, stream):
        self.users = [*getattr(self, "users", []), stream]


def test_prefetched_batches_stay_until_the_step_that_uses_them_has_ended(monkeypatch):
    from basicsr.data import prefetch_dataloader

    prefetching.patch_cuda_prefetcher()
    patched = prefetch_dataloader.CUDAPrefetcher
    prefetching.patch_cuda_prefetcher()
    assert prefetch_dataloader.CUDAPrefetcher is patched, "a second call does nothing"
    step_stream, order = MagicMock(), []
    step_stream.wait_stream = lambda stream: order.append("wait")
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: step_stream)
    prefetcher = object.__new__(patched)
    prefetcher.stream, prefetcher.batch = MagicMock(), {"lq": torch.zeros(1).as_subclass(OnTheDevice), "key": "a"}
    batch = prefetcher.batch
    monkeypatch.setattr(patched, "preload", lambda self: order.append("next copy"))
    assert prefetcher.next() is batch
    assert batch["lq"].users == [step_stream]
    assert order == ["wait", "next copy"]
    prefetcher.batch = None
    assert prefetcher.next() is None
