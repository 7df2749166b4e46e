"""Checks promises that no single module keeps: layers of the core, versions, tables in the docs."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

import mobile_multimodal
from mobile_multimodal.errors import HTTP_STATUS_OF_ERROR, http_status_of


@pytest.fixture
def check_core_includes(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_core_includes", root / "scripts/check_core_includes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_core_includes_point_down(check_core_includes: ModuleType) -> None:
    assert check_core_includes.upward_includes(check_core_includes.SOURCES) == []


@pytest.mark.parametrize(
    ("folder", "include", "complaint"),
    [
        ("quant", "kernels/kernels.h", "which is not below it"),
        ("vision", "text/byte_pair_encoding.h", "which is not below it"),
        ("ops", "mobile_multimodal/mobile_multimodal.h", "only c_api may"),
        ("ops", "tools/x.h", "without a place in the order"),
        ("ops", "kernels/kernels.h", ""),
        ("ops", "local.h", ""),
        ("c_api", "mobile_multimodal/mobile_multimodal.h", ""),
    ],
)
def test_an_upward_include_is_found(
    check_core_includes: ModuleType, tmp_path: Path, folder: str, include: str, complaint: str
) -> None:
    file = tmp_path / "core" / "src" / folder / "x.cpp"
    file.parent.mkdir(parents=True)
    file.write_text(f'// text\n#include <vector>\n#include "{include}"\n', encoding="utf-8")
    found = check_core_includes.upward_includes(tmp_path / "core" / "src")
    if complaint:
        assert len(found) == 1
        assert complaint in found[0]
        assert f"core/src/{folder}/x.cpp:3" in found[0]
    else:
        assert found == []


def test_the_changelog_knows_this_version(root: Path) -> None:
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[([^\]]+)\]", text, re.MULTILINE)
    assert versions[0] == "Unreleased" or versions[0] == mobile_multimodal.__version__


def test_the_documented_http_statuses_are_those_of_the_table(root: Path) -> None:
    text = (root / "docs/python-api.md").read_text(encoding="utf-8")
    documented = dict(re.findall(r"^\| `(\w+Error)` \|[^|]*\| (\d+) \|", text, re.MULTILINE))
    assert {error_type.__name__ for error_type in HTTP_STATUS_OF_ERROR} <= set(documented)
    for name, status in documented.items():
        assert http_status_of(getattr(mobile_multimodal, name)("x")) == int(status)


def test_every_local_link_in_the_docs_leads_somewhere(root: Path) -> None:
    for page in [*root.glob("*.md"), *root.glob("docs/**/*.md"), *root.glob("examples/**/*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.relative_to(root)} links to {target}"
