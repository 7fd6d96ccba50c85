"""The house keeps its own rules: the version, the lock, and what goes into the wheel."""

import re
import tomllib
from fnmatch import fnmatchcase
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = ["engine", "actors", "persistence", "gateway", "simulations"]
NOT_SHIPPED = {"tests"}

DECLARED = re.compile(r"(?P<name>[a-z0-9-]+)(\[[a-z,]+\])?>=(?P<bound>\d+\.\d+)")
LOCKED = re.compile(r"(?P<name>[a-z0-9-]+)(\[[a-z,]+\])?==(?P<version>[0-9][0-9a-z.]*)( ; [^\\]+)?")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def locked_requirements() -> list[list[str]]:
    """Each requirement of the lock as its logical line, cut at the continuations."""
    text = (ROOT / "requirements.lock").read_text().replace("\\\n", "\\")
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    return [[part.strip() for part in line.split("\\")] for line in lines]


def declared_requirements() -> list[str]:
    """What the lock must cover: the runtime, and the extras that the tests use."""
    project = PYPROJECT["project"]
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *extras["cluster"], *extras["tracing"], *extras["dev"]]


def goes_into_the_wheel(package: str) -> bool:
    """Whether setuptools ships this package: the patterns of its discovery, matched as it matches them."""
    find = PYPROJECT["tool"]["setuptools"]["packages"]["find"]
    return any(fnmatchcase(package, pattern) for pattern in find["include"])


def shipped_files() -> list[Path]:
    """Every file of the five packages, caches apart, relative to the root."""
    found = (path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file())
    return [path.relative_to(ROOT) for path in found if "__pycache__" not in path.parts]


def test_version_is_that_of_the_installed_distribution() -> None:
    assert version("tessera") == PYPROJECT["project"]["version"]


def test_installed_entry_points_are_the_declared_ones() -> None:
    project = PYPROJECT["project"]
    declared = {
        "console_scripts": project["scripts"],
        "tessera.commands": project["entry-points"]["tessera.commands"],
    }
    for group, commands in declared.items():
        installed = {
            point.name: point.value
            for point in entry_points(group=group)
            if point.dist is not None and point.dist.name == "tessera"
        }
        assert installed == commands, group


def test_lock_names_no_host() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text
    assert not re.search(
        r"^\s*(-i|-f|--(extra-)?index-url|--find-links|--trusted-host)\b", text, re.MULTILINE
    )


def test_every_locked_requirement_is_pinned_and_hashed() -> None:
    requirements = locked_requirements()
    assert requirements
    for pin, *hashes in requirements:
        assert LOCKED.fullmatch(pin.strip()), pin
        assert hashes, f"{pin} has no hash"
        assert all(HASH.fullmatch(item) for item in hashes), pin


@pytest.mark.parametrize("requirement", declared_requirements())
def test_declared_lower_bound_is_the_locked_version(requirement: str) -> None:
    declared = DECLARED.fullmatch(requirement)
    assert declared, f"{requirement}: write it as name>=major.minor"
    pins = [LOCKED.fullmatch(pin) for pin, *_ in locked_requirements()]
    versions = {pin["name"]: pin["version"] for pin in pins if pin}
    assert declared["name"] in versions, "missing from the lock: run `make lock`"
    assert versions[declared["name"]].split(".")[:2] == declared["bound"].split(".")


def test_every_dependency_says_why() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    extras = [name for group in PYPROJECT["project"]["optional-dependencies"].values() for name in group]
    for requirement in [*PYPROJECT["project"]["dependencies"], *extras]:
        assert re.search(rf'^ +"{re.escape(requirement)}", +# \S', text, re.MULTILINE), requirement


def test_every_top_level_package_is_shipped_or_known_not_to_be() -> None:
    top_level = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert top_level - NOT_SHIPPED == set(PACKAGES)
    assert {package for package in top_level if goes_into_the_wheel(package)} == set(PACKAGES)


def test_every_folder_of_the_tree_is_in_the_wheel() -> None:
    folders = {".".join(path.parent.parts) for path in shipped_files()}
    assert [folder for folder in sorted(folders) if not goes_into_the_wheel(folder)] == []


def test_every_file_of_the_tree_is_in_the_wheel() -> None:
    patterns = ["*.py", *PYPROJECT["tool"]["setuptools"]["package-data"]["*"]]
    left_out = [
        path for path in shipped_files() if not any(fnmatchcase(path.name, name) for name in patterns)
    ]
    assert not left_out, "add their suffix to [tool.setuptools.package-data]"


@pytest.mark.parametrize("package", PACKAGES)
def test_package_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


def test_import_contract_covers_every_package() -> None:
    linter = PYPROJECT["tool"]["importlinter"]
    layers = next(item["layers"] for item in linter["contracts"] if item["type"] == "layers")
    assert sorted(linter["root_packages"]) == sorted(PACKAGES)
    assert sorted(layers) == sorted(PACKAGES)


def test_every_test_lives_in_a_layer() -> None:
    layers = {"unit", "contract", "integration", "simulation"}
    strays = [
        path
        for path in (ROOT / "tests").rglob("test_*.py")
        if path.relative_to(ROOT / "tests").parts[0] not in layers
    ]
    assert not strays
