import json
import sys

import pytest

from shared.errors import DependencyError
from shared.optional import import_optional


def test_it_gives_the_module() -> None:
    assert import_optional("json", "vision", "a test") is json


@pytest.mark.parametrize("module", ["zoo_no_such_package", "zoo_no_such_package.inner"])
def test_what_is_not_installed_is_told_with_the_extra(module: str) -> None:
    with pytest.raises(
        DependencyError,
        match=r"^a test needs zoo_no_such_package: pip install 'domain-zoo\[vision\]'",
    ):
        import_optional(module, "vision", "a test")


def test_a_broken_package_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(DependencyError, match="timm"):
        import_optional("timm", "vision", "a test")
