"""One picture from a file of unknown origin: its pixels, or a one-line error.

The rules: 8 bits a channel (of 16 the upper 8, as OpenCV reads them); alpha is dropped; palettes, grey and CMYK become RGB
without colour profiles; RGB is turned as its EXIF orientation says, as viewers show it. Formats are told by content, not by name.
"""

import warnings
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image as Pillow

from cia_extract.clips.picture import LARGEST_PX, Pixels
from cia_extract.common.outcomes import ClipError

# Not every format that Pillow knows: its EPS reader starts Ghostscript.
FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP")
_ORIENTATION: Final = 0x0112  # EXIF's tag
_EXIF_IN: Final = frozenset(["exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"])
_TURNS: Final = {
    2: Pillow.Transpose.FLIP_LEFT_RIGHT,
    3: Pillow.Transpose.ROTATE_180,
    4: Pillow.Transpose.FLIP_TOP_BOTTOM,
    5: Pillow.Transpose.TRANSPOSE,
    6: Pillow.Transpose.ROTATE_270,
    7: Pillow.Transpose.TRANSVERSE,
    8: Pillow.Transpose.ROTATE_90,
}


def read(path: Path, mode: str) -> Pixels:
    """[H, W, 3] uint8 for `mode` "RGB", [H, W] for "L" (stored flow: not turned, since turning would swap its components).

    Raises ClipError if the file is missing, no picture, damaged or cut off, or has more than LARGEST_PX pixels.
    """
    if not path.is_file():
        problem = "is a folder" if path.is_dir() else "is a broken link" if path.is_symlink() else "does not exist, or is no file"
        raise ClipError(f"{path}: cannot be read: it {problem}; unpack the frames again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Pillow.DecompressionBombWarning)
            warnings.simplefilter("ignore", UserWarning)  # damaged EXIF: the pixels are fine
            with Pillow.open(path, formats=FORMATS) as picture:
                if picture.width * picture.height > LARGEST_PX:
                    raise Pillow.DecompressionBombError
                return _pixels(picture, mode)
    except (Pillow.DecompressionBombError, Pillow.DecompressionBombWarning):
        limit = f"{LARGEST_PX // 1_000_000} million pixels"
        raise ClipError(
            f"{path}: cannot be read: it has more than {limit}, too many for a frame; unpack the frames again"
        ) from None
    except PermissionError:
        raise ClipError(f"{path}: cannot be read: permission denied; change its permissions") from None
    except Pillow.UnidentifiedImageError:
        raise ClipError(f"{path}: cannot be read: it is no jpg or png, whatever its name says; unpack the frames again") from None
    except Exception as error:  # Pillow's readers raise errors of any kind for damaged files
        raise ClipError(f"{path}: cannot be read: it is damaged or cut off; unpack the frames again") from error


def _pixels(picture: Pillow.Image, mode: str) -> Pixels:
    if picture.mode.startswith("I"):  # 16 bits of grey, which Pillow would cut at 255
        upper = np.clip(np.asarray(picture).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        picture, turn = Pillow.fromarray(upper), _turn(picture)
    else:
        picture.load()
        turn = _turn(picture)
    picture = picture.convert(mode)
    if turn is not None and mode == "RGB":
        picture = picture.transpose(turn)
    return np.asarray(picture)


def _turn(picture: Pillow.Image) -> Pillow.Transpose | None:
    if not _EXIF_IN & picture.info.keys():  # most pictures; the look-up takes a tenth of the time of decoding one
        return None
    try:
        return _TURNS.get(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF: the pixels are fine
        return None
