"""Pages that need nothing but themselves: templates, style and pictures in one file. Names from files appear as text."""

import base64
import io
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from cia_extract import __version__
from cia_extract.common import writes
from cia_extract.common.names import printable


def write(out: Path, template: str, **values: Any) -> None:
    """Render a template of this folder to `out`. Every text is escaped. Raises UsageError where `out` cannot be written."""
    environment = jinja2.Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: printable(value, keep="\n") if isinstance(value, str) else value,
        loader=jinja2.FunctionLoader(_template),
    )
    page = environment.get_template(template).render(version=__version__, **values)
    with writes.translated(str(out), "choose another file"):
        out.parent.mkdir(parents=True, exist_ok=True)
        writes.text(out, page)


def jpeg(image: npt.NDArray[np.uint8]) -> str:
    """A photo [H, W, 3] as the source of an HTML image."""
    return _embedded(image, "jpeg", quality=85)


def png(image: npt.NDArray[np.uint8]) -> str:
    """A drawing [H, W], [H, W, 3] or with alpha [H, W, 4] as the source of an HTML image."""
    return _embedded(image, "png", optimize=True)


def _embedded(image: npt.NDArray[np.uint8], form: str, **options: Any) -> str:
    buffer = io.BytesIO()
    Pillow.fromarray(image).save(buffer, form, **options)
    return f"data:image/{form};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _template(name: str) -> str:
    return resources.files(__package__).joinpath("templates", name).read_text(encoding="utf-8")
