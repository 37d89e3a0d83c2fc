"""JSON objects from files that may be damaged, or somebody else's."""

import json
from typing import Any

from cia_extract.common.errors import DataError


def json_object(text: str, place: str, remedy: str) -> dict[str, Any]:
    """The JSON object that `text` holds.

    Args:
        place: the file, and what in it, with which a message begins.
        remedy: what to do about it, with which a message ends.

    Raises:
        DataError: `text` is not JSON, is nested too deeply, or is JSON but no object.

    >>> json_object('{"epochs": 3}', "config.json", "get the file again")
    {'epochs': 3}
    >>> json_object("[3]", "config.json", "get the file again")
    Traceback (most recent call last):
    cia_extract.common.errors.DataError: config.json is a list, not a JSON object; get the file again
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place} is damaged (not JSON: {error}); {remedy}") from error
    if not isinstance(value, dict):
        raise DataError(f"{place} is a {type(value).__name__}, not a JSON object; {remedy}")
    return value
