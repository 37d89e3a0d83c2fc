"""Reading TOML that may be anybody's: bounded before it is parsed, which takes time with the square of a dotted key's length."""

import re
import tomllib
from pathlib import Path
from typing import Any, Final

from cia_extract.common import text_files
from cia_extract.common.errors import DataError
from cia_extract.common.settings import brief

MOST_BYTES: Final = 256_000  # of a file; the longest that is built in has 5 kB
LONGEST_LINE: Final = 2000  # characters, but of a comment
MOST_PARTS: Final = 8  # of a dotted key, and of a table's name; ours have two
# Texts, of which the last may be open, so that nothing is read twice; and comments.
_TEXTS: Final = re.compile(
    r"""\"{3}(?:\\.?|[^\\])*?(?:\"{3}|\Z)|'{3}.*?(?:'{3}|\Z)|\"(?:\\.|[^\"\\\n])*\"?|'[^'\n]*'?|\#[^\n]*""", re.DOTALL
)
_LONG: Final = re.compile(rf"(?<![\w-])[\w-]+(?:[ \t]*\.[ \t]*[\w-]+){{{MOST_PARTS},}}")


def read(path: Path, advice: str) -> dict[str, Any]:
    """What the TOML file at `path` says; `advice` is what to do with another file.

    Raises DataError: it cannot be read, is no TOML, or has more than 256 kB, lines of more than 2000 characters or keys of more
    than 8 parts.
    """
    if path.is_file() and path.stat().st_size > MOST_BYTES:
        raise _too_large(str(path))
    return parsed(text_files.read_text(path, "TOML file", advice), str(path))


def parsed(text: str, where: str) -> dict[str, Any]:
    """What a TOML text says; `where` begins the message. Raises DataError as `read`."""
    if len(text) > MOST_BYTES:
        raise _too_large(where)
    if any(len(line) > LONGEST_LINE and not line.startswith("#") for line in text.splitlines()):
        raise DataError(f"{where}: has a line of more than {LONGEST_LINE} characters; break it")
    plain = _TEXTS.sub(lambda found: "" if found[0].startswith("#") else "_", text)
    if long := _LONG.search(plain):
        raise DataError(f"{where}: {brief(long[0])}: has more than {MOST_PARTS} parts with dots between; write part.option")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: is no TOML ({error})") from None


def _too_large(where: str) -> DataError:
    return DataError(f"{where}: is larger than {MOST_BYTES // 1000} kB, so it is no method, set-up or space; name another file")
