"""Checks every query of the alert rules and of the dashboard against the metrics of a real server."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis_server import RedisServer
from request_bodies import picture_body
from server_process import ServerProcess

promql_parser = pytest.importorskip("promql_parser")

ROOT = Path(__file__).resolve().parent.parent.parent
RULES = [ROOT / "deploy/alerts/recording.yml", ROOT / "deploy/alerts/alerts.yml"]
DASHBOARD = ROOT / "deploy/dashboards/mobile-multimodal.json"
# What Prometheus itself adds.
OF_PROMETHEUS = {"up": {"job", "instance"}}
OF_EVERY_TARGET = {"job", "instance"}
# What a user of Grafana chooses; Grafana puts it in before it asks.
GRAFANA = {"$__rate_interval": "5m", "$job": ".+", "$instance": ".+"}


def rules() -> list[dict[str, Any]]:
    return [
        rule
        for file in RULES
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    ]


def dashboard_queries() -> dict[str, str]:
    """Every query of the dashboard by panel and letter, as Grafana asks it."""
    found = {}
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        for target in panel.get("targets", []):
            query = target["expr"]
            for name, value in GRAFANA.items():
                query = query.replace(name, value)
            found[f"{panel['title']} {target['refId']}"] = query
    return found


def all_queries() -> dict[str, str]:
    """Rules and panels."""
    return {rule.get("alert") or rule["record"]: rule["expr"] for rule in rules()} | dashboard_queries()


class Exposed:
    """What a server exposes: each series' name with its labels, and the values of each label."""

    def __init__(self, text: str) -> None:
        self.labels: dict[str, set[str]] = {name: set(labels) for name, labels in OF_PROMETHEUS.items()}
        self.values: dict[tuple[str, str], set[str]] = {}
        for line in text.splitlines():
            if not line or line.startswith("#"):
                continue
            name = re.split(r"[{ ]", line, maxsplit=1)[0]
            labels = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', line))
            self.labels.setdefault(name, set(OF_EVERY_TARGET)).update(labels)
            for label, value in labels.items():
                self.values.setdefault((name, label), set()).add(value)


def complaints(expression: Any, exposed: Exposed) -> list[str]:
    """What a query asks for that does not exist, found by walking its tree."""
    found: list[str] = []
    kinds = (promql_parser.MatrixSelector, promql_parser.AggregateExpr)

    def walk(node: Any) -> set[str]:
        """The labels that the node's value may have."""
        if isinstance(node, promql_parser.VectorSelector):
            if node.name not in exposed.labels:
                found.append(f"nothing is called {node.name}")
                return set(OF_EVERY_TARGET)
            labels = exposed.labels[node.name]
            for matcher in node.matchers.matchers:
                if matcher.name not in labels:
                    found.append(f"{node.name} has no label {matcher.name}")
                elif str(matcher.op).endswith("Equal") and "Not" not in str(matcher.op):
                    seen = exposed.values.get((node.name, matcher.name), set())
                    if matcher.name in ("le", "state", "cache", "backend", "use") and matcher.value not in seen:
                        found.append(f"{node.name} has no {matcher.name} {matcher.value!r}, but {sorted(seen)}")
            return labels
        if isinstance(node, promql_parser.MatrixSelector):
            return walk(node.vector_selector if hasattr(node, "vector_selector") else node.vs)
        if isinstance(node, promql_parser.AggregateExpr):
            below = walk(node.expr)
            if node.modifier is None:
                return set()
            for label in node.modifier.labels:
                if label not in below:
                    found.append(f"{promql_parser.AggregateExpr.prettify(node)}: nothing below has a label {label}")
            return set(node.modifier.labels)
        parts = [
            getattr(node, name)
            for name in ("lhs", "rhs", "expr")
            if getattr(node, name, None) is not None and not isinstance(node, kinds)
        ]
        return set().union(*(walk(part) for part in [*parts, *getattr(node, "args", [])]))

    walk(expression)
    return found


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as started:
        yield started


@pytest.fixture(scope="module")
def served(redis: RedisServer) -> Iterator[ServerProcess]:
    """A server with Redis that has had one request of each kind."""
    with ServerProcess(["--workers", "1", "--cache-redis-url", redis.url, "--limits-redis-url", redis.url]) as server:
        picture = (ROOT / "examples/pictures/boats.jpg").read_bytes()
        page = (ROOT / "examples/pages/invoice.png").read_bytes()
        for path, body in (
            ("/v1/caption", picture_body(picture)),
            ("/v1/caption", picture_body(picture)),  # from the cache
            ("/v1/ocr", picture_body(page)),
            ("/v1/ask", picture_body(picture, question="Is there a dog?")),
            ("/v1/embed", picture_body(picture)),
            ("/v1/embed", json.dumps({"text": "a dog"}).encode()),
        ):
            assert post(server, path, body) == 200, path
        assert post(server, "/v1/caption", b'{"image": "no base64"}') in (400, 422)
        yield server


@pytest.fixture(scope="module")
def exposed(served: ServerProcess) -> Exposed:
    """What the server exposes, and what the recording rules make of it."""
    made = Exposed(served.metrics_text())
    for rule in rules():
        if "record" in rule:
            grouped = re.search(r"by \(([^)]*)\)", rule["expr"])
            labels = {label.strip() for label in grouped[1].split(",")} - {"le"} if grouped else OF_EVERY_TARGET
            made.labels[rule["record"]] = set(labels)
            if "cache" in labels:
                made.values[(rule["record"], "cache")] = made.values[("mobile_multimodal_cache_misses_total", "cache")]
    return made


def post(server: ServerProcess, path: str, body: bytes) -> int:
    """The status of a POST."""
    request = urllib.request.Request(server.api + path, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_the_dashboard_is_what_its_generator_writes() -> None:
    generator = runpy.run_path(str(ROOT / "deploy/dashboards/build_dashboard.py"))
    assert json.loads(DASHBOARD.read_text(encoding="utf-8")) == generator["dashboard"](), (
        "run `python deploy/dashboards/build_dashboard.py`"
    )


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("name", all_queries())
def test_query_is_valid_promql(name: str) -> None:
    promql_parser.parse(all_queries()[name])


def test_every_metric_and_label_asked_for_exists(exposed: Exposed) -> None:
    wrong = {
        name: said for name, query in all_queries().items() if (said := complaints(promql_parser.parse(query), exposed))
    }
    assert not wrong, json.dumps(wrong, indent=1)


def test_wrong_names_are_noticed(exposed: Exposed) -> None:
    """The check above would be worth nothing if it found nothing."""
    for query, expected in (
        ("rate(mobile_multimodal_request_total[5m])", "nothing is called mobile_multimodal_request_total"),
        ('mobile_multimodal_workers{status="dead"}', "mobile_multimodal_workers has no label status"),
        ("sum by (route) (mobile_multimodal_requests_total)", "has a label route"),
        ('sum by (task) (rate(mobile_multimodal_confidence_bucket{le="0.75"}[1h]))', "has no le '0.75'"),
    ):
        said = complaints(promql_parser.parse(query), exposed)
        assert len(said) == 1, query
        assert expected in said[0]


def test_every_metric_of_the_server_is_on_the_dashboard_or_explained(exposed: Exposed) -> None:
    shown = " ".join(all_queries().values())
    named = {
        re.sub(r"_(total|bucket|sum|count|created)$", "", name)
        for name in exposed.labels
        if name.startswith("mobile_multimodal_")
    }
    assert {name for name in named if name not in shown} == set()


def test_prometheus_evaluates_the_rules_on_a_live_server(served: ServerProcess, tmp_path: Path) -> None:
    """Debian's Prometheus scrapes the server each second: no rule may fail, and no alert fires."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed (Debian package prometheus)")
    for file in RULES:
        shutil.copy(file, tmp_path)
    configuration = yaml.safe_load((ROOT / "deploy/alerts/prometheus.example.yml").read_text(encoding="utf-8"))
    configuration["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    configuration["scrape_configs"][0]["static_configs"][0]["targets"] = [urllib.parse.urlsplit(served.metrics).netloc]
    del configuration["alerting"]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(configuration), encoding="utf-8")
    for name in ("recording.yml", "alerts.yml"):  # groups with an interval of their own would keep the test waiting
        text = (tmp_path / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(re.sub(r"\n    interval: \w+", "", text), encoding="utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [
        "prometheus",
        "--config.file=prometheus.yml",
        "--storage.tsdb.path=data",
        f"--web.listen-address={address}",
    ]
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log) as process,
    ):
        try:
            groups = _evaluated(address, tmp_path / "log")
            ready = _ask(address, "/api/v1/query?query=mobile_multimodal_ready")
        finally:
            process.terminate()
            process.wait(20)
    for group in groups:
        for rule in group["rules"]:
            assert rule["health"] == "ok", f"{rule['name']}: {rule.get('lastError')}"
    alerts = [alert for group in groups for rule in group["rules"] for alert in rule.get("alerts", [])]
    assert [alert for alert in alerts if alert["state"] == "firing"] == []
    assert [sample["value"][1] for sample in ready["result"]] == ["1"]


def _evaluated(address: str, log: Path) -> list[dict[str, Any]]:
    """The groups of rules once each has been evaluated on scraped data."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        time.sleep(0.5)
        try:
            seen = _ask(address, "/api/v1/query?query=up")["result"]
            groups: list[dict[str, Any]] = _ask(address, "/api/v1/rules")["groups"]
        except OSError:
            continue  # it is starting
        if seen and groups and all(rule["health"] != "unknown" for group in groups for rule in group["rules"]):
            time.sleep(3)  # once more, with the rates of several scrapes
            return list(_ask(address, "/api/v1/rules")["groups"])
    raise AssertionError(f"Prometheus evaluated nothing:\n{log.read_text()[-3000:]}")


def _ask(address: str, path: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
        found: dict[str, Any] = json.loads(answer.read())["data"]
        return found
