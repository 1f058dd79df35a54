"""The lock, requirements.txt, pins and hashes what pyproject.toml asks for, and does not tell where it was compiled."""

import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCK = (ROOT / "requirements.txt").read_text(encoding="utf-8")
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LISTS = {"runtime": SETTINGS["project"]["dependencies"], **SETTINGS["project"]["optional-dependencies"]}
ASKED = [Requirement(line) for line in chain(*LISTS.values())]
PINNED = {canonicalize_name(name): pin for name, pin in re.findall(r"^([\w.-]+)(?:\[\w+\])?==([^\s;]+)", LOCK, re.M)}


@pytest.mark.parametrize("requirement", ASKED, ids=str)
def test_every_dependency_is_pinned_to_a_version_that_it_allows(requirement: Requirement) -> None:
    assert requirement.specifier.contains(PINNED[canonicalize_name(requirement.name)])


def test_every_pin_has_a_hash_and_a_reason_to_be_there() -> None:
    entries = re.split(r"\n(?=\S)", LOCK)
    pins = [entry for entry in entries if re.match(r"[\w.-]+(\[\w+\])?==", entry)]
    assert len(pins) > 100
    assert all("--hash=sha256:" in entry for entry in pins)
    asked = {canonicalize_name(requirement.name) for requirement in ASKED}
    direct = {canonicalize_name(re.match(r"[\w.-]+", e)[0]) for e in pins if re.search(r"via.*medisync", e, re.S)}  # type: ignore[index]
    assert direct == asked


def test_the_lock_names_no_index() -> None:
    assert "://" not in LOCK
    assert "index-url" not in LOCK.replace("--no-emit-index-url", "")


def test_the_build_backend_is_pinned_because_the_editable_install_is_not_isolated() -> None:
    for requirement in map(Requirement, SETTINGS["build-system"]["requires"]):
        assert requirement.specifier.contains(PINNED[canonicalize_name(requirement.name)])


@pytest.mark.parametrize("name", LISTS)
def test_dependencies_are_in_alphabetical_order(name: str) -> None:
    names = [Requirement(line).name for line in LISTS[name]]
    assert names == sorted(names)


def test_every_dependency_has_its_reason_in_one_line() -> None:
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    dependencies = [line for line in lines if re.match(r'    "[\w.-]+[>=~]=', line)]
    assert len(dependencies) == len(ASKED)
    assert all(re.search(r'",\s+# \w', line) for line in dependencies)
