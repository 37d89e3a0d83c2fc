"""Checkpoint files of I3D and TBN, read safely from any layout into one canonical form.

`files` reads arrays without running code, `layouts` knows each port's names and axes, `identity` compares checksums, `fit`
says what does not fit a network. The canonical form of a stream, float32:

I3D   {TensorFlow variable name: array}, names and axes of DeepMind's checkpoints without the leading "RGB/inception_i3d/":
      kernels [D, H, W, in, out], batch normalisation [C]; 57 units × 4 + 2 = 230 tensors. DeepMind's have no scale; a
      fine-tuned file's scale, if it is not 1, is kept as "…/batch_norm/gamma".
TBN   {released name without "module." and stream: array}, torch's axes; 69 units × 6 = 414 tensors.
"""

from pathlib import Path

from cia_extract.common.errors import DataError
from cia_extract.networks.weights.files import read_arrays
from cia_extract.networks.weights.layouts import Checkpoint, Tensors, recognise

__all__ = ["Checkpoint", "Tensors", "read"]


def read(path: Path) -> Checkpoint:
    """Read a checkpoint file. Its network is "unknown" if no tensor has a name of I3D's or BN-Inception's.

    Raises DataError if the file is missing, of an unknown kind, damaged, or asks to run code.
    """
    arrays = read_arrays(path)
    try:
        return recognise(arrays)
    except DataError as error:
        raise DataError(f"weights {path}: {error}") from error
