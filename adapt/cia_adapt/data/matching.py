"""Which features belong to which clip: decided by the manifest's ids and paths, never by the order of files."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from cia_extract.common.errors import DataError
from cia_extract.features import ClipFeatures


@dataclass(frozen=True)
class Candidate:
    """Features of one modality that may be a clip's."""

    where: str
    """File or row that holds them, for messages."""
    name: tuple[str, ...]
    """Folders and name without suffix."""
    read: Callable[[], ClipFeatures]
    """Reads them."""
    folder: str = ""
    """Name of the folder that was searched; it may be a class's or a domain's name."""


def match(
    columns: Mapping[str, Sequence[str]], entries: Sequence[Candidate], listed: str
) -> dict[str, Callable[[], ClipFeatures]]:
    """{clip id: reads its features} of the clips that have features among `entries`.

    Names are compared from the end, the name first, then its folders. A clip gets the entry whose name agrees with its id, or
    with its `path` if no other clip has the same path. Where several agree, the one that agrees in most folders counts. Upper and
    lower case are told apart, unless nothing agrees otherwise.

    Args:
        columns: the manifest's, {column: values [N]}.
        listed: the manifest's name, for messages.

    Raises:
        DataError: two entries agree equally well with a clip, or one entry belongs to two clips.
    """
    indexes = [_Index(entries, fold) for fold in (False, True)]
    paths = columns.get("path", columns["clip"])
    counts = Counter(paths)
    readers: dict[str, Callable[[], ClipFeatures]] = {}
    owners: dict[int, str] = {}  # {id of an entry: the clip that has it}
    for clip, path in zip(columns["clip"], paths, strict=True):
        names = [PurePosixPath(clip).parts]
        if counts[path] == 1:
            *folders, name = PurePosixPath(path).parts or ("",)
            names += [(*folders, name), (*folders, PurePosixPath(name).stem)]
        entry = _best(clip, names, indexes)
        if entry is None:
            continue
        if id(entry) in owners:
            both = f"'{owners[id(entry)]}' and '{clip}'"
            raise DataError(f"{listed}: {both} would both have the features {entry.where}; write their folders into the ids")
        owners[id(entry)] = clip
        readers[clip] = entry.read
    return readers


class _Index:
    """Features by their names: `ends` by every end of folders and name, `whole` by the whole name alone. `fold` ignores case."""

    def __init__(self, entries: Sequence[Candidate], fold: bool) -> None:
        self.fold = fold
        self.ends: dict[tuple[str, ...], list[Candidate]] = defaultdict(list)
        self.whole: dict[tuple[str, ...], list[Candidate]] = defaultdict(list)
        for entry in entries:
            full = self.spelled((entry.folder, *entry.name))
            for begin in range(len(full)):
                self.ends[full[begin:]].append(entry)
            self.whole[full].append(entry)
            self.whole[full[1:]].append(entry)

    def spelled(self, name: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(part.casefold() for part in name) if self.fold else name

    def agreeing(self, name: tuple[str, ...]) -> tuple[int, Sequence[Candidate]]:
        """(number of parts that agree, counted from the end, the features with which they do); (0, ()) where none agree.

        One of the two names must be the end of the other.

        >>> index = _Index([Candidate("", ("run", "v1"), lambda: None, "feats")], False)
        >>> [index.agreeing(name)[0] for name in (("v1",), ("hmdb", "run", "v1"), ("jump", "v1"))]
        [1, 2, 0]
        """
        spelled = self.spelled(name)
        if spelled in self.ends:
            return len(name), self.ends[spelled]
        for begin in range(1, len(spelled)):
            if spelled[begin:] in self.whole:
                return len(name) - begin, self.whole[spelled[begin:]]
        return 0, ()


def _best(clip: str, names: Sequence[tuple[str, ...]], indexes: Sequence[_Index]) -> Candidate | None:
    """The features that agree best with one of the clip's names; None where none agree. Raises DataError for a tie."""
    several: Sequence[Candidate] = ()
    for index in indexes:
        agreeing = [index.agreeing(name) for name in names]
        most = max(count for count, _ in agreeing)
        best = (
            list({id(entry): entry for count, entries in agreeing if count == most for entry in entries}.values()) if most else []
        )
        if len(best) == 1:
            return best[0]
        several = several or best
    if not several:
        return None
    some = " and ".join(entry.where for entry in several[:2]) + (" and others" if len(several) > 2 else "")
    raise DataError(
        f"clip '{clip}' is ambiguous: {some} both fit; give its folder in the manifest's path, as jump/v1.mp4, or import "
        "one of them"
    )
