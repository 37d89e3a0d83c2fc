"""Whether a file is a submission that the challenge takes. The file may be anybody's: nothing in it is trusted.

A zip with exactly one file, test.json:

    {"version": "0.2", "challenge": "domain_adaptation", "sls_pt": 0 … 5, "sls_tl": 0 … 5, "sls_td": 0 … 5,
     "results_target": {"<narration_id>": {"verb": {"0": score, …, "96": score}, "noun": {"0": score, …, "299": score}}, …},
     "results_source": the same of the source's test clips; may be left out}
"""

import json
import lzma
import math
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from cia_extract.common.errors import SubmissionError
from cia_extract.common.names import printable

import cia_adapt.results.challenge.official as official
from cia_adapt.runs import files

NAME: Final = "test.json"
MOST_BYTES: Final = 256 << 20  # of test.json; both domains' test clips with 17 digits a score take 120 MB
MOST_VALUES: Final = (
    6_000_000  # in test.json; both domains' test clips have 4.1 million. A value takes about 100 bytes as an object
)
MOST_LISTED: Final = 1 << 20  # bytes of a zip's list of its files, which is read whole; that of a submission has 55
HEAD: Final = {"version": "0.2", "challenge": "domain_adaptation"}
LEVELS: Final = ("sls_pt", "sls_tl", "sls_td")
RESULTS: Final = ("results_target", "results_source")
REMEDY: Final = "write it with cia-adapt submit"


class Table(dict[str, Any]):
    """A JSON object, and the keys that it has more than once."""

    doubled: tuple[str, ...] = ()


def check(path: Path, ids: Mapping[str, Collection[str]]) -> dict[str, int]:
    """{"results_target": number of its clips, …} of the submission at `path`.

    Args:
        ids: {"results_target": the ids that it must have, …}; those of results that are not named here are not compared.

    Raises SubmissionError that names what is wrong and the ids.
    """
    return check_text(read(path), str(path), ids)


def read(path: Path) -> bytes:
    """test.json of a zip. Raises SubmissionError where it is none, has other files, or is larger than a submission can be."""
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise _refused(path, ["it cannot be read as a zip (it is a folder, pipe or device)"])
        if path.stat().st_size > MOST_BYTES:
            raise _refused(path, [f"it is larger than a submission can be, {MOST_BYTES >> 20} MiB"])
        if _listed_bytes(path) > MOST_LISTED:
            raise _refused(path, [f"it holds thousands of files, not only {NAME}"])
        with zipfile.ZipFile(path) as archive:
            listed = archive.infolist()
            if [entry.filename for entry in listed] != [NAME]:
                raise _refused(path, [f"it holds {official.some([e.filename for e in listed]) or 'nothing'}, not only {NAME}"])
            if listed[0].file_size > MOST_BYTES:
                raise _refused(path, [f"its {NAME} is larger than a submission can be, {MOST_BYTES >> 20} MiB"])
            with archive.open(listed[0]) as file:
                text = file.read(MOST_BYTES + 1)
    except SubmissionError:
        raise
    except (
        OSError,
        ValueError,
        RuntimeError,
        NotImplementedError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
    ) as error:
        # RuntimeError: it needs a password; NotImplementedError: a compression that is not known here
        raise _refused(path, [f"it cannot be read as a zip ({printable(str(error)[:200])})"]) from error
    if len(text) > MOST_BYTES:
        raise _refused(path, [f"its {NAME} is larger than a submission can be, {MOST_BYTES >> 20} MiB"])
    return text


def _listed_bytes(path: Path) -> int:
    """Bytes of the list of a zip's files, as its end says; 0 where the file has no such end, which `ZipFile` refuses.

    `ZipFile` reads that many bytes, whatever number of files stands beside them, and takes 20 times the memory.
    """
    with path.open("rb") as file:
        end = zipfile._EndRecData(file)  # type: ignore[attr-defined]  # the reader of `ZipFile`, so that both see one zip
    return int(end[zipfile._ECD_SIZE]) if end else 0  # type: ignore[attr-defined]


def check_text(text: bytes, where: str, ids: Mapping[str, Collection[str]]) -> dict[str, int]:
    """As `check`, of the bytes of a test.json; `where` begins the message."""
    if files.values(text) > MOST_VALUES:
        raise _refused(where, [f"{NAME} has more than {MOST_VALUES:,} values, more than a submission can have"])
    try:
        content = json.loads(text, object_pairs_hook=_table)
    except (ValueError, RecursionError) as error:
        raise _refused(where, [f"{NAME} is not JSON ({printable(str(error)[:200])})"]) from error
    faults = list(_faults(content, ids))
    if faults:
        raise _refused(where, faults)
    return {name: len(content[name]) for name in RESULTS if name in content}


def _refused(where: Path | str, faults: list[str]) -> SubmissionError:
    return official.refused(str(where), faults, REMEDY)


def _table(pairs: list[tuple[str, Any]]) -> Table:
    table = Table(pairs)
    if len(table) < len(pairs):
        seen: set[str] = set()
        table.doubled = tuple(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
    return table


def _faults(content: Any, ids: Mapping[str, Collection[str]]) -> Iterator[str]:
    """A line for each fault, what concerns the whole file first."""
    if not isinstance(content, Table):
        yield f"{NAME} is no JSON object"
        return
    yield from _key_faults("", content, {*HEAD, *LEVELS, "results_target"}, {"results_source"})
    for key, value in HEAD.items():
        if key in content and content[key] != value:
            yield f'{key} is {_brief(content[key])}, not "{value}"'
    for key in LEVELS:
        if key in content and (type(content[key]) is not int or not 0 <= content[key] <= 5):
            yield f"{key} is {_brief(content[key])}, not a level from 0 to 5"
    for key in RESULTS:
        if key in content:
            yield from _result_faults(key, content[key], ids.get(key))
        elif key in ids and key != "results_target":  # whose absence is a fault anyway
            yield f"{key} is missing, whose {len(ids[key])} clips are asked for"


def _result_faults(key: str, results: Any, ids: Collection[str] | None) -> Iterator[str]:
    """Faults of the clips of one domain."""
    if not isinstance(results, Table) or not results:
        yield f"{key} has no clips"
        return
    if results.doubled:
        yield f"{key} has {official.some(set(results.doubled))} more than once"
    if ids is not None:
        expected = set(ids)
        if missing := expected - results.keys():
            yield f"{key} lacks {len(missing)} of {len(expected)} clips: {official.some(missing)}"
        if extra := results.keys() - expected:
            yield f"{key} has {len(extra)} clips that are not asked for: {official.some(extra)}"
    numbers = {task: [str(i) for i in range(len(names))] for task, names in official.classes().items()}
    for clip, tasks in results.items():
        yield from _clip_faults(printable(clip[:60]), tasks, numbers)


def _clip_faults(clip: str, tasks: Any, numbers: Mapping[str, list[str]]) -> Iterator[str]:
    if not isinstance(tasks, Table):
        yield f"{clip} has no verb and noun"
        return
    yield from _key_faults(f"{clip}: ", tasks, set(numbers), set())
    for task, keys in numbers.items():
        if task not in tasks:
            continue
        scores = tasks[task]
        if not isinstance(scores, Table):
            yield f"{clip}: {task} is no object of scores"
            continue
        if len(scores) != len(keys):
            yield f"{clip}: {task} has {len(scores)} classes, not {len(keys)}"
        elif list(scores) != keys and set(scores) != set(keys):
            yield f"{clip}: {task} has a class {official.some(set(scores) - set(keys))}; they are 0 to {len(keys) - 1}"
        if scores.doubled:
            yield f"{clip}: {task} has class {official.some(set(scores.doubled))} more than once"
        wrong = next((k for k, value in scores.items() if type(value) not in (int, float) or not _finite(value)), None)
        if wrong is not None:
            yield f"{clip}: {task} {printable(wrong[:20])} is {_brief(scores[wrong])}, not a finite number"


def _key_faults(where: str, table: Table, needed: set[str], allowed: set[str]) -> Iterator[str]:
    if missing := needed - table.keys():
        yield f"{where}{official.some(missing)} is missing"
    if extra := table.keys() - needed - allowed:
        yield f"{where}{official.some(extra)} is no key of a submission"
    if table.doubled:
        yield f"{where}{official.some(set(table.doubled))} is there more than once"


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond what a float holds
        return False


def _brief(value: Any) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return printable(repr(value)[:60])
