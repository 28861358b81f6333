"""Names → objects: lazy, unique, and helpful when wrong."""

import subprocess
import sys

import pytest

from shared.errors import ConfigError, DataError, PluginError, UnknownNameError
from shared.registry import Registry


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


@pytest.mark.parametrize("target", ["fractions", "a:b:c", "fractions.Fraction", ":b", "a:"])
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
    # neither of the two is taken silently, and the listing goes on
    with pytest.raises(PluginError) as used:
        registry.get("fractions")
    assert str(used.value) == message
    assert "fractions" in [entry.name for entry in registry]


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


@pytest.mark.parametrize("name", [None, 3, ["fractions"]])
def test_a_name_is_a_text(registry: Registry[object], name: str) -> None:
    with pytest.raises(ConfigError, match=r"name of a registered dataset.*Known: broken, fract"):
        registry.build(name, "data")


def test_what_a_constructor_refuses_is_the_users_mistake(registry: Registry[object]) -> None:
    with pytest.raises(ConfigError) as caught:
        registry.build("fractions", "data", 1, denominator=0)
    message = str(caught.value)
    assert "data (dataset 'fractions') cannot be made with denominator=0" in message
    assert "ZeroDivisionError" in message


def test_an_error_of_ours_passes_untouched(registry: Registry[object]) -> None:
    registry.add("folder", "domains.astro.datasets.folder:StarFolder", "domain astro (x 1.0)")
    with pytest.raises(DataError, match=r"^nowhere: no such folder"):
        registry.build("folder", "data", root="nowhere")


def test_a_target_that_is_no_class(registry: Registry[object]) -> None:
    registry.add("constant", "math:pi", "domain mine (mine 1.0)")
    with pytest.raises(PluginError, match=r"'constant' of domain mine \(mine 1.0\) is no class"):
        registry.build("constant", "data")


def test_an_entry_knows_its_domain(registry: Registry[object]) -> None:
    registry.add("owned", "a:b", "domain mine (mine 1.0)", "mine")
    assert registry.entry("owned").domain == "mine"
    assert registry.entry("fractions").domain == "shared"
