"""Parts are found by name: built-in ones, those of installed packages, and those that a module registers."""

from importlib.metadata import EntryPoint, EntryPoints

import pytest

from search_spaces.architecture import SPACES
from search_spaces.errors import InvalidInputError
from search_spaces.registry import Registry, foreign_modules


def registry_with(*points: tuple[str, str]) -> Registry[object]:
    """A registry as if packages that are installed had these entry points."""
    parts: Registry[object] = Registry("things")
    parts.__dict__["_installed"] = {name: EntryPoint(name, value, "espalier.things") for name, value in points}
    return parts


def test_built_in_spaces_are_entry_points_as_those_of_others_are() -> None:
    assert {"mobile", "nasbench201", "darts", "module", "tiny_ds"} <= set(SPACES)
    assert SPACES["mobile"].__name__ == "MobileSpace"
    assert SPACES.is_built_in("mobile") and SPACES.module_of("mobile") == "search_spaces.mobile.space"
    assert foreign_modules("mobile") == set()


def test_a_registered_part_is_found_by_its_name_and_module() -> None:
    parts = registry_with(("lens", "optics.lens:Lens"))
    parts.register("prism")(Registry)
    assert parts.module_of("prism") == __name__
    assert list(parts) == ["lens", "prism"] and parts["prism"] is Registry
    assert parts.module_of("lens") == "optics.lens" and not parts.is_built_in("lens")
    assert foreign_modules("lens") == {"optics.lens"}


def test_a_name_belongs_to_one_module_however_often_it_is_imported() -> None:
    parts = registry_with(("lens", "optics.lens:Lens"), ("own", f"{__name__}:registry_with"))
    for name in ("own", "prism", "prism"):  # its own entry point; a notebook's cell that runs twice
        parts.register(name)(registry_with)
    parts._modules["prism"] = "another"
    for name in ("prism", "lens"):
        with pytest.raises(InvalidInputError, match=name):
            parts.register(name)


def test_an_unknown_name_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(InvalidInputError, match="mobile"):
        SPACES["mobil"]


def test_a_package_that_cannot_be_imported_is_refused_by_name() -> None:
    with pytest.raises(InvalidInputError, match=r"'lens' of optics.lens:Lens cannot be imported: ModuleNotFoundError"):
        registry_with(("lens", "optics.lens:Lens"))["lens"]


def test_two_packages_with_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint("lens", value, "espalier.things") for value in ("optics:Lens", "eyes:Lens")]
    monkeypatch.setattr("search_spaces.registry._installed_parts", lambda: EntryPoints(points))
    with pytest.raises(InvalidInputError, match="optics:Lens and of eyes:Lens"):
        list(Registry("things"))
