"""What stands for the objects that a pickle names, and how plain data come of it."""

from collections.abc import Callable
from typing import Any, Final

from cia_extract.common.arrays import SPARE
from cia_extract.common.errors import DataError

DEPTH: Final = 100  # of containers in containers
NODE: Final = 16  # bytes that a value counts at least
Make = Callable[..., Any]


class StandIn:
    """Stands for an object that a pickle builds: keeps what it is given, and is turned into plain data when all is read."""

    __slots__ = ()

    def restore(self, state: Any) -> None:
        """Take the state that the pickle holds for it."""
        raise DataError("it sets the state of an object that has none")

    def size(self) -> int:
        """Bytes of what `finish` makes."""
        return NODE

    def finish(self) -> Any:
        """The plain data that it stands for. Raises DataError where they are not sound."""
        raise NotImplementedError


class Name:
    """A class or function that the pickle names, not called yet."""

    __slots__ = ("make", "module", "name")

    def __init__(self, module: str, name: str, make: Make) -> None:
        self.module, self.name, self.make = module, name, make


class Finisher:
    """Turns stand-ins into plain data, each once, and measures what a reader that follows every reference would see."""

    def __init__(self, file_size: int) -> None:
        self.largest = SPARE + 8 * file_size
        self.spent = 0
        self.finished: dict[int, tuple[Any, int]] = {}
        self.open: set[int] = set()

    def finish(self, value: Any, depth: int) -> tuple[Any, int]:
        """(plain data, their size in bytes with everything as often as it is referred to)."""
        if isinstance(value, str | bytes):
            return value, NODE + len(value)
        if isinstance(value, Name):
            return None, NODE
        if not isinstance(value, list | tuple | dict | StandIn):
            return value, NODE
        if id(value) in self.finished:
            return self.finished[id(value)]
        if id(value) in self.open:
            raise DataError("it holds itself")
        if depth > DEPTH:
            raise DataError(f"its containers are nested more than {DEPTH} deep")
        self.open.add(id(value))
        result = self._stand_in(value) if isinstance(value, StandIn) else self._container(value, depth)
        self.open.remove(id(value))
        self.finished[id(value)] = result
        return result

    def _stand_in(self, value: StandIn) -> tuple[Any, int]:
        size = value.size()
        self.spent += size
        self._check(self.spent)
        return value.finish(), size

    def _container(self, value: Any, depth: int) -> tuple[Any, int]:
        size, items = NODE, []
        for item in value.values() if isinstance(value, dict) else value:
            plain, of_item = self.finish(item, depth + 1)
            items.append(plain)
            size += of_item
            self._check(size)
        return (dict(zip(value, items, strict=True)) if isinstance(value, dict) else type(value)(items)), size

    def _check(self, size: int) -> None:
        if size > self.largest:
            raise DataError("its parts refer to each other so often that it grows far beyond the file")
