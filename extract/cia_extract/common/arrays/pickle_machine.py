"""Pickles as data. Python's own Unpickler builds whatever a file names, and sizes its memo by what the file says.

This machine runs only the instructions that data need, as `pickletools` describes them. It looks up the name of a class or
function in a table of stand-ins and nowhere else. Memory stays within a small multiple of the file's size.
"""

import pickletools
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, Final

from cia_extract.common.arrays import shown
from cia_extract.common.arrays.stand_ins import Finisher, Make, Name, StandIn
from cia_extract.common.errors import DataError

INSTRUCTIONS: Final = 2_000_000  # of one pickle; EPIC's largest table has 30 thousand


StandIns = Mapping[tuple[str, str], Make]
"""{(module, name): the function that gets the arguments in the pickle and returns a stand-in}."""


class UnknownName(DataError):
    """A pickle names a class or function that is not in the table; `name` is what it names ("os.system")."""

    def __init__(self, module: str, name: str) -> None:
        self.name = shown(f"{module}.{name}")
        super().__init__(f"this pickle asks for {self.name}; only arrays, numbers and text are read from pickles")


class Bounded:
    """A file that refuses to be read beyond its end, before memory is allocated for it. `left` counts the bytes to the end."""

    def __init__(self, file: BinaryIO) -> None:
        start = file.tell()
        self.file, self.left = file, file.seek(0, 2) - start
        file.seek(start)

    def read(self, count: int) -> bytes:
        """The next `count` bytes. Raises DataError if fewer are left."""
        if not 0 <= count <= self.left:
            raise DataError("damaged pickle: it ends too early")
        self.left -= count
        return self.file.read(count)

    def readline(self) -> bytes:
        """The next line with its line end, or what is left of the file."""
        line = self.file.readline()
        self.left -= len(line)
        return line


def load(file: BinaryIO, stand_ins: StandIns, persistent: Callable[[Any], Any] | None = None) -> Any:
    """The content of the pickle at the file's position, which moves behind the pickle.

    `stand_ins` maps the names that the pickle may use to stand-ins. `persistent` turns its persistent ids into values; without it
    they are refused. Raises DataError, and nothing else.
    """
    bounded = Bounded(file)
    size = bounded.left
    try:
        return Finisher(size).finish(_Machine(bounded, stand_ins, persistent).run(), 0)[0]
    except DataError:
        raise
    except Exception as error:  # a damaged pickle may ask for anything of anything
        raise DataError(f"damaged, or not a pickle ({type(error).__name__})") from error


class _Machine:
    """A pickle's stack machine. The methods carry out instructions; their argument is the instruction's own."""

    def __init__(self, file: Bounded, stand_ins: StandIns, persistent: Callable[[Any], Any] | None) -> None:
        self.file, self.stand_ins, self.persistent = file, stand_ins, persistent
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []  # the stacks below each mark
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        for _ in range(INSTRUCTIONS):
            instruction, reader = OPCODES.get(self.file.read(1), ("", None))
            argument = reader(self.file) if reader else None
            if instruction == "STOP":
                return self.stack.pop()
            if instruction in VALUES:
                self.stack.append(_value(argument))
            elif instruction in EMPTY:
                self.stack.append(EMPTY[instruction]())
            elif instruction in ACTIONS:
                ACTIONS[instruction](self, argument)
            else:
                raise DataError(f"damaged pickle, or one that holds more than data ({instruction or 'unknown instruction'})")
        raise DataError(f"this pickle has more than {INSTRUCTIONS:,} instructions; save arrays rather than lists")

    def mark(self, _: Any) -> None:
        self.outer.append(self.stack)
        self.stack = []

    def to_mark(self) -> list[Any]:
        """Take off and return the values above the last mark."""
        above, self.stack = self.stack, self.outer.pop()
        return above

    def pop(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.to_mark()

    def put(self, place: Any) -> None:
        self.memo[len(self.memo) if place is None else place] = self.stack[-1]

    def tuple_of(self, count: int) -> None:
        items = tuple(self.stack[len(self.stack) - count :])
        if len(items) != count:
            raise DataError("damaged pickle: values are missing")
        del self.stack[len(self.stack) - count :]
        self.stack.append(items)

    def append(self, items: list[Any]) -> None:
        self._top(list).extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self._top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | bytes | bool | None) and not (type(key) is int and abs(key) < 1 << 60):
                raise DataError("one of its dictionaries has keys that are neither text nor numbers")
            target[key] = value

    def _top(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise DataError("damaged pickle: it adds items to something that is no list or dictionary")
        return self.stack[-1]

    def name(self, module: Any, name: Any) -> None:
        if (module, name) not in self.stand_ins:
            raise UnknownName(module, name)
        self.stack.append(Name(module, name, self.stand_ins[module, name]))

    def call(self, arguments: Any) -> None:
        name = self.stack.pop()
        if not isinstance(name, Name) or not isinstance(arguments, tuple):
            raise DataError("damaged pickle: it calls something that is no class or function")
        self.stack.append(name.make(*arguments))

    def build(self, _: Any) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], StandIn):
            self.stack[-1].restore(state)
        else:
            self._top(dict)  # an OrderedDict, whose attributes (torch's `_metadata`) are not needed

    def persistent_id(self, identity: Any) -> None:
        if self.persistent is None:
            raise DataError("this pickle refers to data outside the file")
        self.stack.append(self.persistent(identity))


def _value(argument: Any) -> Any:
    """A number or text. Texts of Python 2 that are not ASCII state no encoding, so they stay bytes.

    Raises DataError or UnicodeEncodeError for values that cannot be printed or stored.
    """
    if isinstance(argument, str) and not argument.isascii():
        argument.encode()  # UnicodeEncodeError: half a surrogate pair; `load` calls the file damaged
    if isinstance(argument, int) and argument.bit_length() > 512:
        raise DataError("one of its numbers has more than 150 digits")
    return bytes(argument) if isinstance(argument, bytearray) else argument


def _old_text(file: Any, counted: Callable[[Any], Any]) -> str | bytes:
    data = counted(file)
    raw = data.encode("latin1") if isinstance(data, str) else data
    return raw.decode() if raw.isascii() else raw


def _old_line(file: Any) -> bytes:
    """Python 2's quoted text of protocol 0: the bytes between the quotes."""
    import codecs

    line = file.readline().rstrip(b"\n")
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise DataError("damaged pickle: text without quotes")
    decoded: bytes = codecs.escape_decode(line[1:-1])[0]
    return decoded


def _reader(opcode: pickletools.OpcodeInfo) -> Callable[[Any], Any] | None:
    if opcode.name == "STRING":
        return lambda file: _old_text(file, _old_line)
    if opcode.name in ("BINSTRING", "SHORT_BINSTRING"):
        counted = opcode.arg.reader  # type: ignore[union-attr]
        return lambda file: _old_text(file, counted)
    return opcode.arg.reader if opcode.arg else None


OPCODES: Final = {opcode.code.encode("latin1"): (opcode.name, _reader(opcode)) for opcode in pickletools.opcodes}
VALUES: Final = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"} | {
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
EMPTY: Final[Mapping[str, Callable[[], Any]]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": list,
}


def _stack_global(machine: _Machine, _: Any) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    machine.name(*(part if isinstance(part, str) else "" for part in (module, name)))


def _dictionary(machine: _Machine, _: Any) -> None:
    items = machine.to_mark()
    machine.stack.append({})
    machine.set_items(items)


def _set_item(machine: _Machine, _: Any) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    machine.set_items([key, value])


def _pop_mark(machine: _Machine, _: Any) -> None:
    machine.to_mark()


def _tuple(machine: _Machine, _: Any) -> None:
    items = machine.to_mark()
    machine.stack.append(tuple(items))


def _list(machine: _Machine, _: Any) -> None:
    items = machine.to_mark()
    machine.stack.append(items)


def _call_with_words(machine: _Machine, _: Any) -> None:
    if machine.stack.pop() != {}:
        raise DataError("it calls a function with keyword arguments, which arrays do not need")
    machine.call(machine.stack.pop())


ACTIONS: Final[Mapping[str, Callable[[_Machine, Any], None]]] = {
    "PROTO": lambda machine, version: None,
    "FRAME": lambda machine, size: None,
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": _pop_mark,
    "DUP": lambda machine, _: machine.stack.append(machine.stack[-1]),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda machine, place: machine.stack.append(machine.memo[place])),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "TUPLE": _tuple,
    "LIST": _list,
    "FROZENSET": _list,
    "DICT": _dictionary,
    "APPEND": lambda machine, _: machine.append([machine.stack.pop()]),
    **dict.fromkeys(("APPENDS", "ADDITEMS"), lambda machine, _: machine.append(machine.to_mark())),
    "SETITEM": _set_item,
    "SETITEMS": lambda machine, _: machine.set_items(machine.to_mark()),
    "GLOBAL": lambda machine, both: machine.name(*both.split(" ", 1)),
    "STACK_GLOBAL": _stack_global,
    **dict.fromkeys(("REDUCE", "NEWOBJ"), lambda machine, _: machine.call(machine.stack.pop())),
    "NEWOBJ_EX": _call_with_words,
    "BUILD": _Machine.build,
    "PERSID": _Machine.persistent_id,
    "BINPERSID": lambda machine, _: machine.persistent_id(machine.stack.pop()),
}
