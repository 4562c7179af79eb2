"""Which optimizers and schedules BasicSR's own models take."""

import torch
from basicsr.models.base_model import BaseModel

from macr_plugin.options.optimization import stock_optimizers, stock_schedulers


def test_what_the_installed_basicsr_builds():
    weight = torch.nn.Parameter(torch.zeros(1))
    for name in stock_optimizers():
        assert type(BaseModel.get_optimizer(None, name, [weight], 0.1)).__name__ == name
    assert sorted(stock_schedulers()) == ["CosineAnnealingRestartLR", "MultiStepLR", "MultiStepRestartLR"]


def test_a_basicsr_that_builds_more_is_believed(monkeypatch):
    """As its development version does."""

    def get_optimizer(self, optim_type, params, lr, **kwargs):
        if optim_type == "AdamW":
            return torch.optim.AdamW(params, lr, **kwargs)
        raise NotImplementedError

    monkeypatch.setattr(BaseModel, "get_optimizer", get_optimizer)
    assert stock_optimizers() == ["AdamW"]


def test_where_there_is_no_source_all_are_taken(monkeypatch):
    monkeypatch.setattr(BaseModel, "get_optimizer", eval("lambda self: None"))
    assert "AdamW" in stock_optimizers()
