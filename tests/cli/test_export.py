import torch

from macr_plugin.archs.macr_arch import MACR
from macr_plugin.cli import main


def test_the_weights_of_a_checkpoint_become_a_graph(tmp_path, capsys):
    options = {"num_feat": 8, "num_blocks": 1, "branch_channels": 2}
    network = MACR(**options).eval().requires_grad_(False)
    torch.save({"params": network.state_dict(), "network_g": {"type": "MACR", **options}}, tmp_path / "mine.pth")
    target = tmp_path / "net.pt2"
    arguments = ["--weights", str(tmp_path / "mine.pth"), "--format", "torch-export", "-o", str(target)]
    assert main(["export", *arguments]) == 0
    assert "source: mine.pth\n" in capsys.readouterr().out
    program = torch.export.load(target).module()
    for size in ((16, 16), (61, 97)):
        picture = torch.rand(1, 3, *size)
        torch.testing.assert_close(program(picture), network(picture), rtol=0, atol=1e-5)
