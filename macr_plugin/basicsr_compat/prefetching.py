"""The patch of how BasicSR copies batches to the GPU ahead of their step."""

from __future__ import annotations

from typing import Any

from macr_plugin.basicsr_compat.patching import replace_everywhere


def patch_cuda_prefetcher() -> None:
    """Keep a prefetched batch's memory until the step that uses it has ended.

    BasicSR copies the next batch on a stream of its own, and the allocator gives the memory of the batch before to that
    copy as soon as Python lets go of it, although the GPU may still be computing with it.
    """
    import torch
    from basicsr.data.prefetch_dataloader import CUDAPrefetcher

    if "record_stream" in CUDAPrefetcher.next.__code__.co_names:
        return

    class RecordingCUDAPrefetcher(CUDAPrefetcher):
        """BasicSR's prefetcher, which tells the allocator who uses a batch."""

        def next(self) -> dict[str, Any] | None:
            """The batch that was copied meanwhile, None at the end of an epoch."""
            step_stream = torch.cuda.current_stream()
            step_stream.wait_stream(self.stream)
            batch = self.batch
            for value in (batch or {}).values():
                if isinstance(value, torch.Tensor) and value.is_cuda:
                    value.record_stream(step_stream)
            self.preload()
            return batch

    replace_everywhere(CUDAPrefetcher, RecordingCUDAPrefetcher)
