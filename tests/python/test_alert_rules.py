"""Checks the alert rules: promtool accepts them, each alert is tested both ways, and each has a runbook."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ALERTS = Path(__file__).resolve().parent.parent.parent / "deploy/alerts"
RUNBOOKS = ALERTS.parent.parent / "docs/runbooks"
TESTS = sorted((ALERTS / "tests").glob("*.yml"))


def run(tool: str, *arguments: str | Path) -> None:
    """Runs one of the tools of Prometheus; its complaint is the test's."""
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed (Debian packages prometheus and prometheus-alertmanager)")
    done = subprocess.run([tool, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def rules() -> list[dict[str, Any]]:
    """All recording and alert rules."""
    return [
        rule
        for name in ("recording.yml", "alerts.yml")
        for group in yaml.safe_load((ALERTS / name).read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    ]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def test_promtool_accepts_the_rules() -> None:
    run("promtool", "check", "rules", ALERTS / "recording.yml", ALERTS / "alerts.yml")


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_rules_do_what_their_tests_say(file: Path) -> None:
    run("promtool", "test", "rules", file)


def test_example_configurations_are_valid() -> None:
    run("promtool", "check", "config", ALERTS / "prometheus.example.yml")
    run("amtool", "check-config", ALERTS / "alertmanager.example.yml")


def test_each_alert_is_seen_firing_and_not_firing() -> None:
    fires, stays_silent = set(), set()
    for file in TESTS:
        for case in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]:
            for expectation in case.get("alert_rule_test", []):
                (fires if expectation["exp_alerts"] else stays_silent).add(expectation["alertname"])
    names = {alert["alert"] for alert in alerts()}
    assert fires == names
    assert stays_silent == names


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_each_alert_has_a_severity_and_a_runbook_that_names_it(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in ("page", "ticket")
    page = ALERTS.parent.parent / alert["annotations"]["runbook"]
    assert page.parent == RUNBOOKS
    assert f"`{alert['alert']}`" in page.read_text(encoding="utf-8")


def test_runbooks_name_no_alert_that_does_not_exist() -> None:
    names = {alert["alert"] for alert in alerts()}
    for page in RUNBOOKS.glob("*.md"):
        assert set(re.findall(r"`(MobileMultimodal\w+)`", page.read_text(encoding="utf-8"))) <= names, page.name


def test_every_runbook_is_listed_and_has_the_same_sections() -> None:
    index = (RUNBOOKS / "README.md").read_text(encoding="utf-8")
    pages = [page for page in sorted(RUNBOOKS.glob("*.md")) if page.name != "README.md"]
    assert pages
    for page in pages:
        assert f"({page.name})" in index, f"{page.name} is not in the list"
        sections = re.findall(r"^## (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert sections == ["What it means", "What users see", "Confirm", "Do", "Over when"], page.name
