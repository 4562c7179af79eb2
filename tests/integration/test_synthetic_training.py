"""Training on blur that is rendered on the fly, in BasicSR's own loop."""

import re
from pathlib import Path

from macr_plugin.data.synthesis import demo


def test_training_from_photographs(tiny_options, run_python):
    photos = Path("photos")
    photos.mkdir()
    for name in demo.SCENES["train"]["motorcycle"]:
        (photos / name).symlink_to(demo.PHOTO_FOLDER / name)
    train = {
        "name": "photos",
        "type": "SyntheticMotionBlurDataset",
        "dataroot_gt": str(photos),
        "gt_size": 48,
        "blur_extent": [4, 8],
        "render_on": "device",
        "uint8": True,
        "num_worker_per_gpu": 1,
        "batch_size_per_gpu": 2,
        "dataset_enlarge_ratio": 10,
    }
    changes = {"datasets__train": train, "train__total_iter": 12, "val__val_freq": 12}
    status, output = run_python("-m", "basicsr.train", "-opt", tiny_options(**changes))
    assert status == 0, output
    losses = [float(loss) for loss in re.findall(r"l_pix: (\S+)", output)]
    assert len(set(losses)) == 12
    assert "Validation demo-test, 3 frames" in output
