"""Which features are which clip's: by the manifest's ids and paths, never by the order of files."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from cia_extract.common.errors import DataError
from cia_extract.features import ClipFeatures


@dataclass(frozen=True)
class Found:
    """Features of one clip and modality."""

    where: str
    """For messages."""
    name: tuple[str, ...]
    """Folders and name without suffix."""
    read: Callable[[], ClipFeatures]
    folder: str = ""
    """Name of the folder in which they were looked for; it may be a class's or a domain's."""


def match(columns: Mapping[str, Sequence[str]], entries: Sequence[Found], listed: str) -> dict[str, Callable[[], ClipFeatures]]:
    """{clip id: its features} of the clips that have any.

    A clip's features are those whose folders and name agree with its id, or with its `path` where no other clip has the same
    one, from the end on. Several may: the ones that agree in most folders count. Names that differ in case alone agree where
    nothing else does. Raises DataError where two files agree as well, or one does with two clips.

    Args:
        columns: the manifest's.
        listed: the manifest's name, for messages.
    """
    indexes = [_Index(entries, fold) for fold in (False, True)]
    paths = columns.get("path", columns["clip"])
    counts = Counter(paths)
    found: dict[str, Callable[[], ClipFeatures]] = {}
    taken: dict[int, str] = {}
    for clip, path in zip(columns["clip"], paths, strict=True):
        names = [PurePosixPath(clip).parts]
        if counts[path] == 1:
            *folders, name = PurePosixPath(path).parts or ("",)
            names += [(*folders, name), (*folders, PurePosixPath(name).stem)]
        entry = _best(clip, names, indexes)
        if entry is None:
            continue
        if id(entry) in taken:
            both = f"'{taken[id(entry)]}' and '{clip}'"
            raise DataError(f"{listed}: {both} would both have the features {entry.where}; write their folders into the ids")
        taken[id(entry)] = clip
        found[clip] = entry.read
    return found


class _Index:
    """Features by their names: `ends` by every end of folders and name, `whole` by the whole name alone."""

    def __init__(self, entries: Sequence[Found], fold: bool) -> None:
        self.fold = fold
        self.ends: dict[tuple[str, ...], list[Found]] = defaultdict(list)
        self.whole: dict[tuple[str, ...], list[Found]] = defaultdict(list)
        for entry in entries:
            full = self.spelled((entry.folder, *entry.name))
            for begin in range(len(full)):
                self.ends[full[begin:]].append(entry)
            self.whole[full].append(entry)
            self.whole[full[1:]].append(entry)

    def spelled(self, name: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(part.casefold() for part in name) if self.fold else name

    def agreeing(self, name: tuple[str, ...]) -> tuple[int, Sequence[Found]]:
        """(how many parts agree from the end on, the features of which they do), where one of both names ends as the other.

        >>> index = _Index([Found("", ("run", "v1"), lambda: None, "feats")], False)
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


def _best(clip: str, names: Sequence[tuple[str, ...]], indexes: Sequence[_Index]) -> Found | None:
    """The features that agree best with one of the names. Raises DataError where several do."""
    several: Sequence[Found] = ()
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
