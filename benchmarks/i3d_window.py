"""One 16×224² window through I3D: the network as it is commonly scripted against what cia-extract runs.

python benchmarks/i3d_window.py
"""

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from cia_extract import pipeline
from cia_extract.backbones.i3d import I3D
from common import print_table, side_by_side

CPU = torch.device("cpu")
WINDOWS = 4

images = np.random.default_rng(0).integers(0, 256, (WINDOWS * 16, 224, 224, 3), dtype=np.uint8)
windows = np.arange(WINDOWS * 16, dtype=np.int32).reshape(WINDOWS, 16)
plain = I3D().eval()
ours = I3D()
ours.load_state_dict(plain.state_dict())
ours = ours.fold().to(memory_format=torch.channels_last_3d)


@torch.inference_mode()
def eager() -> list[torch.Tensor]:
    """One window at a time, batch normalisation as it stands, contiguous tensors."""
    clips = torch.from_numpy(images).float().div(127.5).sub(1).view(WINDOWS, 16, 224, 224, 3).permute(0, 4, 1, 2, 3).contiguous()
    return [plain.maps(clip[None]) for clip in clips]


def extract() -> np.ndarray:
    """Scaling, folded batch normalisation, channels last, batches of four, copied back: all that the pipeline does."""
    return pipeline.describe(ours, images, windows, CPU)


difference = np.abs(extract() - torch.cat(eager()).numpy()).max()
medians = side_by_side({"plain eager": eager, "cia-extract": extract})
print_table(medians, "plain eager", "a window", WINDOWS)
print(f"largest difference between the two {difference:.1e}")
