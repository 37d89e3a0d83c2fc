"""Stand-ins for the objects that a pickle names, and how they become plain data."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final

from cia_extract.common.arrays import SPARE
from cia_extract.common.errors import DataError

DEPTH: Final = 100  # of containers in containers
NODE: Final = 16  # bytes counted for every value at least
Make = Callable[..., Any]


class StandIn(ABC):
    """Stands for an object that a pickle builds: keeps its arguments and state, and becomes plain data once all is read."""

    __slots__ = ()

    def restore(self, state: Any) -> None:
        """Take the state that the pickle holds for the object. Raises DataError: most objects have none."""
        raise DataError("it sets the state of an object that has none")

    def size(self) -> int:
        """Bytes of what `finish` returns."""
        return NODE

    @abstractmethod
    def finish(self) -> Any:
        """The plain data of the object. Raises DataError if they are not sound."""


class Name:
    """A class or function that the pickle names, not called yet."""

    __slots__ = ("make", "module", "name")

    def __init__(self, module: str, name: str, make: Make) -> None:
        self.module, self.name, self.make = module, name, make


class Finisher:
    """Turns stand-ins into plain data, each once, and measures the size that they have with every reference followed.

    `file_size` (bytes) bounds that size.
    """

    def __init__(self, file_size: int) -> None:
        self.largest = SPARE + 8 * file_size
        self.spent = 0
        self.finished: dict[int, tuple[Any, int]] = {}
        self.open: set[int] = set()

    def finish(self, value: Any, depth: int) -> tuple[Any, int]:
        """(plain data of `value`, their size in bytes, each part counted as often as it is referred to).

        `depth` is the number of containers around `value`. Raises DataError for data that are too large, nested too deeply or
        in themselves.
        """
        if isinstance(value, str | bytes):
            return value, NODE + len(value)
        if isinstance(value, Name):
            return None, NODE
        if not isinstance(value, list | tuple | dict | StandIn):
            return value, NODE
        if id(value) in self.finished:
            return self.finished[id(value)]
        if id(value) in self.open:
            raise DataError("one of its containers contains itself")
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
            plain, item_size = self.finish(item, depth + 1)
            items.append(plain)
            size += item_size
            self._check(size)
        return (dict(zip(value, items, strict=True)) if isinstance(value, dict) else type(value)(items)), size

    def _check(self, size: int) -> None:
        if size > self.largest:
            raise DataError("its parts refer to each other so often that they would unpack to far more than the file")
