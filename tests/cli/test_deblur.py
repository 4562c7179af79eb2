from pathlib import Path

import numpy as np
from saved_pictures import save_picture

from macr_plugin.cli import main


def test_the_shipped_weights_restore_what_can_be_read_and_the_status_tells_of_the_rest(capsys):
    save_picture(Path("in/good.png"), np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8))
    Path("in/bad.png").write_bytes(b"x")
    assert main(["deblur", "in", "--device", "cpu"]) == 1
    said = capsys.readouterr().out
    assert "1 done, 0 skipped, 1 failed" in said
    assert "in/bad.png" in said
    assert sorted(path.name for path in Path("deblurred").glob("*.png")) == ["good.png"]
    Path("in/bad.png").unlink()
    assert main(["deblur", "in", "--device", "cpu"]) == 0
    assert "0 done, 1 skipped, 0 failed" in capsys.readouterr().out


def test_bad_input_is_one_line(refusal):
    assert "no such file or folder" in refusal("deblur", "a.png", "--weights", "nowhere.pth")
