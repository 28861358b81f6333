"""Settings against signatures: what fits passes, what does not is one message in plain words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Optional

import numpy as np
import pytest

from shared.errors import ConfigError
from shared.settings import check_fields, check_settings, describe

if TYPE_CHECKING:
    from nowhere import Thing


def target(given: int, size: int, *, depth: int = 1) -> tuple[int, int, int]:
    return given, size, depth


def anything(**settings: int) -> None: ...


def test_names() -> None:
    check_settings(target, (0,), {"size": 1}, "here")
    check_settings(anything, (), {"whatever": 1}, "here")
    with pytest.raises(ConfigError, match=r"here: missing a required argument: 'size'\."):
        check_settings(target, (0,), {"depth": 2}, "here")
    with pytest.raises(ConfigError, match=r"here: multiple values for argument 'given'"):
        check_settings(target, (0,), {"given": 1, "size": 1}, "here")
    with pytest.raises(ConfigError, match=r"has no setting 'dept'\. Did you mean 'depth'\?"):
        check_settings(target, (0,), {"size": 1, "dept": 2}, "here")


class Part:
    def __init__(
        self,
        n: int = 1,
        x: float = 1.0,
        flag: bool = False,
        text: str = "",
        maybe: float | None = None,
        older: Optional[int] = None,  # noqa: UP045
        names: Sequence[str] = (),
        widths: list[int] | None = None,
        betas: tuple[float, float] = (0.9, 0.98),
        any_length: tuple[int, ...] = (),
        bare: list = [],  # type: ignore[type-arg]  # noqa: B006
        units: Mapping[str, str] | None = None,
        pairs: Literal["all"] | Mapping[str, float] = "all",
        mode: Literal["step", "forward"] = "step",
        wrong_default: int = None,  # type: ignore[assignment]  # noqa: RUF013
        free: Any = None,
        odd: np.ndarray | None = None,
        unannotated=None,  # type: ignore[no-untyped-def]
    ) -> None: ...


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("n", 3), ("n", np.int64(3)), ("x", 3), ("x", np.float32(0.5)), ("flag", True),
        ("maybe", None), ("maybe", 2), ("older", None), ("older", 1), ("names", ["a"]),
        ("names", ("a", "b")), ("names", []), ("widths", None), ("widths", [1]),
        ("betas", [0.9, 1]), ("any_length", [1, 2, 3]), ("bare", [1, "a"]), ("units", {}),
        ("units", {"a": "b"}), ("pairs", "all"), ("pairs", {"a-b": 1}), ("mode", "forward"),
        ("wrong_default", None), ("free", object()), ("unannotated", 3), ("odd", "x"),
    ],
)  # fmt: skip
def test_values_that_fit(key: str, value: object) -> None:
    check_settings(Part, (), {key: value}, "here")


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("n", "abc", "'abc' has to be a whole number."),
        ("n", 50.5, "50.5 has to be a whole number."),
        ("n", True, "True has to be a whole number."),
        ("n", None, "None has to be a whole number."),
        ("x", "a", "'a' has to be a number."),
        ("x", False, "False has to be a number."),
        ("flag", 1, "1 has to be true or false."),
        ("text", 3, "3 has to be a text."),
        ("maybe", "a", "'a' has to be a number, or null."),
        ("older", 1.5, "1.5 has to be a whole number, or null."),
        ("names", "Ia", "'Ia' has to be a list of texts, such as [Ia]."),
        ("names", 3, "3 has to be a list of texts."),
        ("names", [3], "[3] has to be a list of texts."),
        ("names", b"Ia", "b'Ia' has to be a list of texts."),
        ("widths", 3, "3 has to be a list of whole numbers, or null, such as [3]."),
        ("betas", [0.9], "a list of 2 values (a number, a number)."),
        ("any_length", [1, "a"], "a list of whole numbers."),
        ("bare", {}, "{} has to be a list, such as [{}]."),
        ("units", "Jy", "'Jy' has to be a mapping from names to texts, or null."),
        ("units", {"a": 1}, "a mapping from names to texts, or null."),
        ("pairs", "al", "'al' has to be 'all', or a mapping from names to numbers."),
        ("mode", "stp", "'stp' has to be 'step' or 'forward'."),
    ],
)
def test_values_that_do_not_fit(key: str, value: object, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_settings(Part, (), {key: value}, "here (part 'x')")
    assert str(caught.value).startswith(f"here (part 'x'): {key}=")
    assert str(caught.value).endswith(expected)


def unresolved(a: "Thing", n: int = 0) -> None: ...


def unhashable(a: [1, 2] = None, b: {"x": 1} = None, n: int = 0) -> None: ...  # type: ignore  # noqa


@pytest.mark.parametrize("strange", [unresolved, unhashable])
def test_strange_annotations_check_nothing_and_break_nothing(strange: Any) -> None:
    check_settings(strange, (), {"a": "anything"}, "here")


def test_every_word_of_a_description() -> None:
    assert describe(list[list[int]]) == "a list of lists of whole numbers"
    assert describe(dict[str, bool]) == "a mapping from names to values true or false"
    assert describe(np.ndarray) == "ndarray"


@dataclass
class Plain:
    name: str
    size: int
    colour: str = "red"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (3, "here is 3, not a mapping"),
        ({"name": "a"}, "here lacks size"),
        ({}, "here lacks name, size"),
        ({"name": "a", "size": 1, "sise": 2}, "no setting 'sise'. Did you mean 'size'"),
        ({"name": "a", "size": "1"}, "here: size='1' has to be a whole number"),
    ],
)
def test_fields_of_a_dataclass(data: object, message: str) -> None:
    check_fields(Plain, {"name": "a", "size": 2}, "here")
    with pytest.raises(ConfigError) as caught:
        check_fields(Plain, data, "here")
    assert message in str(caught.value)
