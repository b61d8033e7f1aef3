"""A pickle machine that can only build data: protocols 0 to 5, no imports, and no calls outside ``rebuild.py``.

Opcodes are those of the standard library's ``pickletools`` documentation. Byte strings of more than a few kilobytes are not
read; their place is noted (``Span``). So a pickle full of weights takes only as long as its opcodes.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable
from typing import Any

from ganinv.errors import WeightsRefused
from ganinv.reading.limits import INLINE_BYTES, MAX_INTEGER_BYTES, MAX_MEMO, MAX_STRING
from ganinv.reading.rebuild import Known, Rebuild
from ganinv.reading.source import Cursor, Span
from ganinv.reading.stub import GlobalName, Stub
from ganinv.reading.tensors import NumpyType, StoredArray

# What a well-formed opcode on a damaged stack can raise; each means the same thing to the reader of the message.
DAMAGE = (
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    MemoryError,
    struct.error,
    RuntimeError,
)


class Machine:
    """Builds the object of one pickle.

    Args:
        cursor: at the pickle's first byte; afterwards behind its last.
        persistent: returns the object of a persistent id (torch's storages).
    """

    def __init__(self, cursor: Cursor, rebuild: Rebuild, persistent: Callable[[Any], Any] | None = None) -> None:
        self.cursor = cursor
        self.rebuild = rebuild
        self.persistent = persistent
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def load(self) -> Any:
        """The object of the pickle."""
        read, budget = self.cursor.read, self.rebuild.budget
        try:
            while True:
                budget.opcode()
                opcode = read(1)
                if opcode == b".":
                    return self.stack.pop()
                step = _STEPS.get(opcode)
                if step is None:
                    raise WeightsRefused(
                        f"byte {self.cursor.position - 1} is not a pickle opcode ({opcode!r}): damaged, or no pickle"
                    )
                step(self)
        except DAMAGE as error:
            raise WeightsRefused(
                f"damaged: the pickle cannot be built at byte {self.cursor.position} ({type(error).__name__})"
            ) from error

    # Reading arguments

    def number(self, form: str) -> int:
        out: int = struct.unpack(form, self.cursor.read(struct.calcsize(form)))[0]
        if out < 0:
            raise WeightsRefused("damaged: a negative length")
        return out

    def text(self, count: int) -> str:
        if count > MAX_STRING:
            raise WeightsRefused(f"a text of {count} bytes")
        return self.cursor.read(count).decode("utf-8", "surrogatepass")

    def raw(self, count: int) -> bytes | Span:
        return self.cursor.read(count) if count <= INLINE_BYTES else self.cursor.skip(count)

    def line(self) -> str:
        return self.cursor.readline().decode("utf-8")

    # The stack

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop_mark(self) -> list[Any]:
        items = self.stack
        self.stack = self.marks.pop()
        return items

    def pop_pairs(self) -> list[tuple[Any, Any]]:
        items = self.pop_mark()
        return list(zip(items[::2], items[1::2], strict=True))

    def mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def pop(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.pop_mark()

    # Opcodes with more to them than one line

    def set_items(self, pairs: list[tuple[Any, Any]]) -> None:
        target = self.stack[-1]
        if isinstance(target, Stub):
            target = target.items
        if not isinstance(target, dict):
            raise WeightsRefused(f"damaged: entries set on {type(target).__name__}")
        self.rebuild.fill(target, pairs)

    def append(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Stub):
            target = target.elements
        if not isinstance(target, list):
            raise WeightsRefused(f"damaged: values appended to {type(target).__name__}")
        target.extend(values)

    def add_items(self) -> None:
        values = self.pop_mark()
        target = self.stack[-1]
        if isinstance(target, Stub):
            target.elements.extend(values)
        elif isinstance(target, set):
            target.update(self.rebuild.check_key(v) for v in values)
        else:
            raise WeightsRefused(f"damaged: elements added to {type(target).__name__}")

    def build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, NumpyType | StoredArray):
            target.set_state(state)
        elif isinstance(target, Stub):
            target.state = state
        elif not isinstance(target, dict | list):  # an OrderedDict may carry attributes; they say nothing we need
            raise WeightsRefused(f"damaged: a state for {type(target).__name__}")

    def reduce(self) -> None:
        args = self.stack.pop()
        self.push(self.rebuild.call(self.stack.pop(), args))

    def new_object(self, with_kwargs: bool = False) -> None:
        kwargs = self.stack.pop() if with_kwargs else None
        args = self.stack.pop()
        if kwargs is not None and not (isinstance(kwargs, dict) and all(isinstance(k, str) for k in kwargs)):
            raise WeightsRefused("damaged: keyword arguments that are not a dict of names")
        self.push(self.rebuild.call(self.stack.pop(), args, kwargs))

    def instance(self, cls: Any, args: list[Any]) -> None:
        if not isinstance(cls, Known | GlobalName):
            raise WeightsRefused("damaged: an instance of something that is not a class")
        self.push(self.rebuild.call(cls, tuple(args)))

    def old_object(self) -> None:
        items = self.pop_mark()
        self.instance(items[0], items[1:])

    def find(self, module: Any, name: Any) -> Any:
        if not isinstance(module, str) or not isinstance(name, str):
            raise WeightsRefused("damaged: a global whose name is not text")
        return self.rebuild.find(module, name)

    def stack_global(self) -> None:
        name = self.stack.pop()
        self.push(self.find(self.stack.pop(), name))

    def persist(self, pid: Any) -> None:
        if self.persistent is None:
            raise WeightsRefused("it refers to objects outside the file; use torch.save's file, not a part of it")
        self.push(self.persistent(pid))

    def long(self, count: int) -> None:
        if count > MAX_INTEGER_BYTES:
            raise WeightsRefused(f"an integer of {count} bytes")
        self.push(int.from_bytes(self.cursor.read(count), "little", signed=True))

    def decimal_line(self) -> None:
        line = self.line()
        self.push({"00": False, "01": True}[line] if line in ("00", "01") else int(line.rstrip("L"), 10))

    def old_string(self) -> None:
        line = self.cursor.readline()
        if len(line) < 2 or line[:1] not in (b"'", b'"') or line[-1:] != line[:1]:
            raise WeightsRefused("damaged: a string without its quotes")
        self.push(codecs.escape_decode(line[1:-1])[0])  # type: ignore[attr-defined]

    def frame(self) -> None:
        if self.number("<Q") > self.cursor.remaining:
            raise WeightsRefused("incomplete: the file ends inside a frame of the pickle; download it again")

    def protocol(self) -> None:
        if (version := self.cursor.read(1)[0]) > 5:
            raise WeightsRefused(f"pickle protocol {version} is unknown; 0 to 5 are read")

    def memoize(self, index: int) -> None:
        if not 0 <= index < MAX_MEMO:  # longer integers can be made to collide
            raise WeightsRefused("damaged: a place in the memo that no pickle has")
        self.memo[index] = self.stack[-1]

    def forbid(self) -> None:
        raise WeightsRefused("it uses pickle extension codes or buffers outside the file, which no checkpoint does")


def _string8(m: Machine, count: int) -> None:
    """Byte strings of Python 2: as text, if they are text."""
    raw = m.raw(count)
    if isinstance(raw, bytes):
        try:
            m.push(raw.decode("ascii"))
            return
        except UnicodeDecodeError:
            pass
    m.push(raw)


_STEPS: dict[bytes, Callable[[Machine], None]] = {
    b"\x80": Machine.protocol,
    b"\x95": Machine.frame,
    # constants and numbers
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"J": lambda m: m.push(struct.unpack("<i", m.cursor.read(4))[0]),
    b"K": lambda m: m.push(m.cursor.read(1)[0]),
    b"M": lambda m: m.push(m.number("<H")),
    b"\x8a": lambda m: m.long(m.number("<B")),
    b"\x8b": lambda m: m.long(m.number("<i")),
    b"G": lambda m: m.push(struct.unpack(">d", m.cursor.read(8))[0]),
    b"I": Machine.decimal_line,
    b"L": Machine.decimal_line,
    b"F": lambda m: m.push(float(m.line())),
    # text and bytes
    b"\x8c": lambda m: m.push(m.text(m.number("<B"))),
    b"X": lambda m: m.push(m.text(m.number("<I"))),
    b"\x8d": lambda m: m.push(m.text(m.number("<Q"))),
    b"V": lambda m: m.push(m.cursor.readline().decode("raw-unicode-escape")),
    b"C": lambda m: m.push(m.raw(m.number("<B"))),
    b"B": lambda m: m.push(m.raw(m.number("<I"))),
    b"\x8e": lambda m: m.push(m.raw(m.number("<Q"))),
    b"\x96": lambda m: m.push(m.raw(m.number("<Q"))),
    b"U": lambda m: _string8(m, m.number("<B")),
    b"T": lambda m: _string8(m, m.number("<i")),
    b"S": Machine.old_string,
    # containers
    b"(": Machine.mark,
    b"0": Machine.pop,
    b"1": lambda m: m.pop_mark().clear(),
    b"2": lambda m: m.push(m.stack[-1]),
    b")": lambda m: m.push(()),
    b"\x85": lambda m: m.push((m.stack.pop(),)),
    b"\x86": lambda m: m.stack.__setitem__(slice(-2, None), [_last(m.stack, 2)]),
    b"\x87": lambda m: m.stack.__setitem__(slice(-3, None), [_last(m.stack, 3)]),
    b"t": lambda m: m.push(tuple(m.pop_mark())),
    b"]": lambda m: m.push([]),
    b"l": lambda m: m.push(m.pop_mark()),
    b"}": lambda m: m.push({}),
    b"d": lambda m: m.push(m.rebuild.fill({}, m.pop_pairs())),
    b"\x8f": lambda m: m.push(set()),
    b"\x91": lambda m: m.push(frozenset(m.rebuild.check_key(v) for v in m.pop_mark())),
    b"a": lambda m: m.append([m.stack.pop()]),
    b"e": lambda m: m.append(m.pop_mark()),
    b"s": lambda m: m.set_items([(m.stack.pop(-2), m.stack.pop())]),
    b"u": lambda m: m.set_items(m.pop_pairs()),
    b"\x90": Machine.add_items,
    # memo
    b"\x94": lambda m: m.memoize(len(m.memo)),
    b"q": lambda m: m.memoize(m.number("<B")),
    b"r": lambda m: m.memoize(m.number("<I")),
    b"p": lambda m: m.memoize(int(m.line(), 10)),
    b"h": lambda m: m.push(m.memo[m.number("<B")]),
    b"j": lambda m: m.push(m.memo[m.number("<I")]),
    b"g": lambda m: m.push(m.memo[int(m.line(), 10)]),
    # objects
    b"c": lambda m: m.push(m.find(m.line(), m.line())),
    b"\x93": Machine.stack_global,
    b"R": Machine.reduce,
    b"\x81": Machine.new_object,
    b"\x92": lambda m: m.new_object(with_kwargs=True),
    b"i": lambda m: m.instance(m.find(m.line(), m.line()), m.pop_mark()),
    b"o": Machine.old_object,
    b"b": Machine.build,
    b"Q": lambda m: m.persist(m.stack.pop()),
    b"P": lambda m: m.persist(m.line()),
    b"\x82": Machine.forbid,
    b"\x83": Machine.forbid,
    b"\x84": Machine.forbid,
    b"\x97": Machine.forbid,
    b"\x98": Machine.forbid,
}


def _last(stack: list[Any], count: int) -> tuple[Any, ...]:
    if len(stack) < count:
        raise IndexError("stack too short")
    return tuple(stack[-count:])
