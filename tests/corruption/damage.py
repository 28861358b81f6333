"""Ways to damage a file, and what may come of it."""

import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from formats import Content, Format
from hypothesis import strategies as st

from shared.errors import ZooError

SECONDS = 20
"""After which reading a file of some kB counts as a hang."""
SAME_MEANING = ("twice", "crlf", "cr", "bom", "utf-16")
OUTCOMES = ("named error", "right", "undetectable", "wrong")
_HUGE = (b"0", b"-1", b"1", b"999999999", b"99999999999999999999", b"1e308", b"nan")
_WORDS = (b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\0", b"\1\0\0\0", b"\x7f\xff\xff\xff")


class Hang(BaseException):
    """Of no kind that a reader catches."""


@dataclass(frozen=True)
class Damage:
    """One damaged file.

    Attributes:
        kind: What was done.
        content: What is left.
    """

    kind: str
    content: bytes


@st.composite
def damages(draw: st.DrawFn, format: Format, foreign: tuple[bytes, ...]) -> Damage:
    """A damaged file of a format; `foreign` are files of other formats."""
    whole = format.content
    kinds = ["truncate", "flip", "flip", "zero", "insert", "delete", "repeat", "number", "word"]
    kinds += ["empty", "foreign", "head of another", "twice"]
    if format.text:
        kinds += ["line lost", "line twice", "lines swapped", *SAME_MEANING[1:]]
    kind = draw(st.sampled_from(kinds))
    at = draw(_places(format))
    size = draw(st.integers(1, 64))
    match kind:
        case "truncate":
            content = whole[:at]
        case "flip":
            damaged = bytearray(whole)
            for place in draw(st.lists(_places(format), min_size=1, max_size=3, unique=True)):
                damaged[place] ^= draw(st.integers(1, 255))
            content = bytes(damaged)
        case "zero":
            content = whole[:at] + bytes(min(size, len(whole) - at)) + whole[at + size :]
        case "insert":
            content = whole[:at] + draw(st.binary(min_size=1, max_size=16)) + whole[at:]
        case "delete":
            content = whole[:at] + whole[at + size :]
        case "repeat":
            content = whole[: at + size] + whole[at:]
        case "number":
            content = _renumber(whole, at, draw(st.sampled_from(_HUGE)))
        case "word":
            word = draw(st.sampled_from(_WORDS))
            content = whole[:at] + word + whole[at + len(word) :]
        case "empty":
            content = b""
        case "foreign":
            content = draw(st.sampled_from(foreign))
        case "head of another":
            other = draw(st.sampled_from(foreign))
            content = other[: min(at, len(other))] + whole[at:]
        case "twice":
            content = whole + whole
        case "crlf":
            content = whole.replace(b"\n", b"\r\n")
        case "cr":
            content = whole.replace(b"\n", b"\r")
        case "bom":
            content = b"\xef\xbb\xbf" + whole
        case "utf-16":
            content = whole.decode().encode("utf-16")
        case _:
            content = _lines(kind, whole, draw)
    return Damage(kind, content)


def _places(format: Format) -> st.SearchStrategy[int]:
    """Anywhere, in the first 200 bytes or the last, or near something of the structure, or among
    the values."""
    last = len(format.content) - 1
    near = [
        place
        for aim in format.aims
        for start in _occurrences(format.content, aim)
        for place in range(max(0, start - 2), min(last, start + len(aim) + 24) + 1)
    ]
    values = range(len(format.content))[slice(*format.values)]
    anywhere = st.integers(0, last)
    ends = st.one_of(st.integers(0, min(last, 200)), st.integers(max(0, last - 200), last))
    return st.one_of(anywhere, ends, *(st.sampled_from(aim) for aim in (near, values) if aim))


def _occurrences(content: bytes, aim: bytes) -> Iterator[int]:
    start = content.find(aim)
    for _ in range(200):
        if start < 0:
            return
        yield start
        start = content.find(aim, start + 1)


def _renumber(content: bytes, at: int, number: bytes) -> bytes:
    """Another number in place of the digits at a place or after it; blanks before it make room, so
    that the columns of a card stay where they are."""
    digits = b"0123456789."
    start = next((i for i in range(at, len(content)) if content[i] in digits), at)
    end = next((i for i in range(start, len(content)) if content[i] not in digits), len(content))
    grown = len(number) - (end - start)
    room = content[max(0, start - max(0, grown)) : start]
    if grown > 0 and room and not room.strip(b" "):
        start -= len(room)
    return content[:start] + number.rjust(end - start) + content[end:]


def _lines(kind: str, whole: bytes, draw: st.DrawFn) -> bytes:
    lines = whole.splitlines(keepends=True)
    first, second = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
    if kind == "line lost":
        del lines[first]
    elif kind == "line twice":
        lines.insert(second, lines[first])
    else:
        lines[first], lines[second] = lines[second], lines[first]
    return b"".join(lines)


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raises `Hang` in what takes longer."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise Hang(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1)  # again where nobody could raise it
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def try_damage(format: Format, damage: Damage, root: Path, expected: Content) -> tuple[str, str]:
    """What comes of a damaged file in a folder of whole ones: one of `OUTCOMES`, and why."""
    path = root / format.path
    path.write_bytes(damage.content)
    try:
        with time_limit(SECONDS):
            got = format.read(root)
    except ZooError as error:
        if str(root) in str(error):
            return "named error", str(error)
        return "wrong", f"an error that names no file: {error}"
    except (Exception, Hang) as error:
        return "wrong", f"{type(error).__name__}: {error}"
    if same(expected, got):
        return "right", ""
    if damage.kind in SAME_MEANING:
        return "wrong", "another result for a file of the same meaning"
    if damage.kind == "foreign":
        return "undetectable", "a whole file, read by its content"
    if format.summed:
        return "wrong", "another result in spite of check sums"
    reason = _impossible(format, damage, expected, got)
    return ("wrong", reason) if reason else ("undetectable", "")


def same(expected: Content, got: Content) -> bool:
    return expected.keys() == got.keys() and all(
        expected[key].shape == got[key].shape
        and expected[key].dtype.kind == got[key].dtype.kind
        and np.array_equal(expected[key], got[key], equal_nan=expected[key].dtype.kind == "f")
        for key in expected
    )


def _impossible(format: Format, damage: Damage, expected: Content, got: Content) -> str:
    """What of a result no whole file can say that differs so little from the right one; empty
    where the format cannot tell: its values are not protected."""
    if not format.optional and expected.keys() != got.keys():
        return f"gives {sorted(got)}, not {sorted(expected)}"
    changed = _changed(format, damage)
    for key in expected.keys() & got.keys():
        old, new = expected[key], got[key]
        if old.ndim != new.ndim or old.shape[1:][-1:] != new.shape[1:][-1:]:
            return f"{key} has shape {new.shape}, not {old.shape}"
        grown = format.filled and len(new) > len(old)
        if format.counted and len(old) != len(new) and not grown:
            return f"{key} has {len(new)} rows, not {len(old)}"
        if format.text and (reason := _too_much(old, new, changed)):
            return f"{key}: {reason} by {changed} lines"
    return ""


def _changed(format: Format, damage: Damage) -> int:
    """Lines lost, new or moved, whichever are more."""
    lines = [content.split(b"\n") for content in (format.content, damage.content)]
    before, after = map(Counter, lines)
    moved = (
        sum(a != b for a, b in zip(*lines, strict=True)) if len(set(map(len, lines))) == 1 else 0
    )
    return max((before - after).total(), (after - before).total(), moved, 1) * format.rows_a_line


def _too_much(old: Any, new: Any, changed: int) -> str:
    """Why a change of some lines cannot do this to an array: it is neither in as many rows nor,
    if the lines are of a header, in as many columns."""
    if old.shape == new.shape and np.atleast_2d((old != new).T).T.any(axis=0).sum() <= changed:
        return ""
    before, after = (Counter(map(repr, a.tolist())) for a in (old, new))
    lost, more = (before - after).total(), (after - before).total()
    return "" if max(lost, more) <= changed else f"{lost} rows lost and {more} new"
