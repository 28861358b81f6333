"""Names → objects: lazy, unique, and helpful when wrong."""

import subprocess
import sys

import pytest

from shared.errors import ConfigError, PluginError, UnknownNameError
from shared.registry import Registry, check_settings


@pytest.fixture
def registry() -> Registry[object]:
    registry: Registry[object] = Registry("dataset")
    registry.add("fractions", "fractions:Fraction", "domain numbers (numbers 1.0)")
    registry.add("broken", "no_such_module_at_all:Thing", "domain other (other 2.0)")
    registry.add("hollow", "fractions:NoSuchThing", "domain other (other 2.0)")
    return registry


def test_listing_imports_nothing_and_is_sorted(registry: Registry[object]) -> None:
    assert [entry.name for entry in registry] == ["broken", "fractions", "hollow"]
    assert "broken" in registry
    assert registry.entry("fractions").origin == "domain numbers (numbers 1.0)"
    code = (
        "import sys; from shared.registry import Registry; r = Registry('x');"
        "r.add('a', 'fractions:Fraction', 'o'); list(r); assert 'fractions' not in sys.modules;"
        "r.get('a'); assert 'fractions' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("name", "why"), [("broken", "No module named"), ("hollow", "no attribute 'NoSuchThing'")]
)
def test_a_bad_target_speaks_when_it_is_used(
    registry: Registry[object], name: str, why: str
) -> None:
    with pytest.raises(PluginError) as caught:
        registry.get(name)
    message = str(caught.value)
    assert name in message
    assert "domain other (other 2.0)" in message
    assert why in message
    assert "zoo doctor" in message


@pytest.mark.parametrize("target", ["fractions", "fractions:Fraction:more", "fractions.Fraction"])
def test_a_malformed_target_is_refused_at_once(registry: Registry[object], target: str) -> None:
    with pytest.raises(PluginError, match=r"domain mine.*'new'.*is not 'module:name'"):
        registry.add("new", target, "domain mine (mine 1.0)")


def test_a_name_taken_twice_names_both_origins(registry: Registry[object]) -> None:
    with pytest.raises(PluginError) as caught:
        registry.add("fractions", "decimal:Decimal", "domain thief (thief 3.0)")
    message = str(caught.value)
    assert "dataset 'fractions'" in message
    assert "domain numbers (numbers 1.0)" in message
    assert "domain thief (thief 3.0)" in message
    assert registry.entry("fractions").target == "fractions:Fraction"


def test_an_unknown_name_gets_the_nearest_then_the_list(registry: Registry[object]) -> None:
    with pytest.raises(UnknownNameError) as caught:
        registry.get("fraction")
    assert str(caught.value) == (
        "There is no dataset 'fraction'. Did you mean 'fractions'? Known: broken, fractions, "
        "hollow."
    )
    with pytest.raises(UnknownNameError, match=r"'zebra'\. Known: broken"):
        registry.get("zebra")
    with pytest.raises(UnknownNameError, match="Nothing is registered"):
        Registry("model").get("zebra")


def test_build_calls_with_the_settings(registry: Registry[object]) -> None:
    assert registry.build("fractions", "data", 1, denominator=2) == 0.5


def test_build_holds_settings_against_the_signature(registry: Registry[object]) -> None:
    with pytest.raises(ConfigError) as caught:
        registry.build("fractions", "data", 1, denominater=2)
    assert "data (dataset 'fractions') has no setting 'denominater'" in str(caught.value)
    assert "Did you mean 'denominator'?" in str(caught.value)
    # what the program passes is not offered as a setting
    assert "numerator" not in str(caught.value).partition("Known:")[2]


def target(given: int, size: int, *, depth: int = 1) -> tuple[int, int, int]:
    return given, size, depth


def anything(**settings: int) -> None: ...


def test_check_settings() -> None:
    check_settings(target, (0,), {"size": 1}, "here")
    check_settings(anything, (), {"whatever": 1}, "here")
    with pytest.raises(ConfigError, match=r"here: missing a required argument: 'size'\."):
        check_settings(target, (0,), {"depth": 2}, "here")
    with pytest.raises(ConfigError, match=r"here: multiple values for argument 'given'"):
        check_settings(target, (0,), {"given": 1, "size": 1}, "here")
    with pytest.raises(ConfigError, match=r"has no setting 'dept'\. Did you mean 'depth'\?"):
        check_settings(target, (0,), {"size": 1, "dept": 2}, "here")
