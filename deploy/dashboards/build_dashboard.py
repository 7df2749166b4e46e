"""Writes the Grafana dashboard from a list of panels: `python deploy/dashboards/build_dashboard.py`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OUTPUT = Path(__file__).resolve().parent / "mobile-multimodal.json"
SERVER = 'job=~"$job", instance=~"$instance"'  # what the two selectors at the top choose
WORK = f'{SERVER}, method="POST", endpoint=~"/v1/.+"'  # what the service level counts (docs/service-level.md)
COLUMNS = 24  # Grafana's grid
HEIGHT = 8


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One plot or number: what it shows, its queries by legend, and its unit in Grafana's names."""

    title: str
    queries: dict[str, str]
    unit: str = "short"
    about: str = ""
    kind: str = "timeseries"
    bound: float | None = None  # drawn as a line; values beyond it are red
    width: int = 8


def rate(metric: str, by: str, selector: str = SERVER) -> str:
    return f"sum by ({by}) (rate({metric}{{{selector}}}[$__rate_interval]))"


def quantile(share: float, metric: str, by: str, selector: str = SERVER) -> str:
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', f'{by}, le', selector)})"


def recorded(name: str) -> str:
    return f'{name}{{job=~"$job"}}'


ROWS: dict[str, list[Panel]] = {
    "Is it well?": [
        Panel(
            title="Servers ready",
            queries={"ready": f"sum(mobile_multimodal_ready{{{SERVER}}})"},
            kind="stat",
            width=4,
        ),
        Panel(
            title="Requests that fail",
            queries={"last hour": recorded("job:mobile_multimodal_failed_requests:ratio_rate1h")},
            unit="percentunit",
            about="5xx but 501; 0.1 % may.",
            kind="stat",
            bound=0.001,
            width=4,
        ),
        Panel(
            title="Error budget left of 30 days, if the last three were all",
            queries={"left": f"1 - {recorded('job:mobile_multimodal_failed_requests:ratio_rate3d')} / 0.001"},
            unit="percentunit",
            kind="stat",
            width=4,
        ),
        Panel(
            title="Burn rate",
            queries={
                "5 min": f"{recorded('job:mobile_multimodal_failed_requests:ratio_rate5m')} / 0.001",
                "1 h": f"{recorded('job:mobile_multimodal_failed_requests:ratio_rate1h')} / 0.001",
                "6 h": f"{recorded('job:mobile_multimodal_failed_requests:ratio_rate6h')} / 0.001",
            },
            about="1 spends the budget in 30 days; 14.4 for an hour pages.",
            bound=14.4,
            width=12,
        ),
    ],
    "Requests": [
        Panel(
            title="Requests by route",
            queries={"{{endpoint}}": rate("mobile_multimodal_requests_total", "endpoint", WORK)},
            unit="reqps",
        ),
        Panel(
            title="Requests by status",
            queries={"{{status}}": rate("mobile_multimodal_requests_total", "status", WORK)},
            unit="reqps",
        ),
        Panel(
            title="Refused, and errors by type",
            queries={
                "refused: {{reason}}": rate("mobile_multimodal_rejected_total", "reason"),
                "{{type}}": rate("mobile_multimodal_errors_total", "type"),
                "hung up": rate("mobile_multimodal_disconnects_total", "job"),
            },
            unit="reqps",
        ),
        Panel(
            title="Slowest 5 % by route",
            queries={
                "{{endpoint}}": quantile(
                    0.95,
                    "mobile_multimodal_request_duration_seconds",
                    "endpoint",
                    f'{SERVER}, endpoint=~"/v1/.+"',
                )
            },
            unit="s",
            bound=0.5,
        ),
        Panel(
            title="Middle and slowest 1 %",
            queries={
                "p50 {{endpoint}}": quantile(
                    0.5,
                    "mobile_multimodal_request_duration_seconds",
                    "endpoint",
                    f'{SERVER}, endpoint=~"/v1/.+"',
                ),
                "p99 {{endpoint}}": quantile(
                    0.99,
                    "mobile_multimodal_request_duration_seconds",
                    "endpoint",
                    f'{SERVER}, endpoint=~"/v1/.+"',
                ),
            },
            unit="s",
        ),
        Panel(
            title="In flight",
            queries={"{{instance}}": f"mobile_multimodal_requests_in_flight{{{SERVER}}}"},
        ),
    ],
    "Work": [
        Panel(
            title="Slowest 5 % of the inference by task",
            queries={"{{task}}": quantile(0.95, "mobile_multimodal_inference_duration_seconds", "task")},
            unit="s",
            bound=0.5,
        ),
        Panel(
            title="Slowest 5 % of the waiting by task",
            queries={"{{task}}": quantile(0.95, "mobile_multimodal_queue_wait_seconds", "task")},
            unit="s",
        ),
        Panel(
            title="Queue",
            queries={
                "waiting {{instance}}": f"mobile_multimodal_inference_queue_length{{{SERVER}}}",
                "limit {{instance}}": f"mobile_multimodal_inference_queue_limit{{{SERVER}}}",
            },
        ),
        Panel(
            title="Jobs by task",
            queries={"{{task}}": rate("mobile_multimodal_inference_duration_seconds_count", "task")},
            unit="ops",
        ),
        Panel(
            title="Mean batch by task",
            queries={
                "{{task}}": rate("mobile_multimodal_batch_size_sum", "task")
                + " / "
                + rate("mobile_multimodal_batch_size_count", "task")
            },
        ),
        Panel(
            title="Mean confidence by task",
            queries={
                "{{task}}": rate("mobile_multimodal_confidence_sum", "task")
                + " / "
                + rate("mobile_multimodal_confidence_count", "task")
            },
            unit="percentunit",
        ),
    ],
    "Caches": [
        Panel(
            title="Lookups answered by the cache",
            queries={
                "{{cache}}": rate("mobile_multimodal_cache_hits_total", "cache")
                + " / ("
                + rate("mobile_multimodal_cache_hits_total", "cache")
                + " + "
                + rate("mobile_multimodal_cache_misses_total", "cache")
                + ")"
            },
            unit="percentunit",
        ),
        Panel(
            title="Size",
            queries={
                "{{instance}}": f"mobile_multimodal_cache_bytes{{{SERVER}}}",
                "limit {{instance}}": f"mobile_multimodal_cache_limit_bytes{{{SERVER}}}",
            },
            unit="bytes",
        ),
        Panel(
            title="Redis",
            queries={"{{use}} {{instance}}": f'mobile_multimodal_backend_up{{{SERVER}, backend="redis"}}'},
            about="1 is up. Empty without Redis.",
        ),
    ],
    "Processes": [
        Panel(
            title="Workers by state",
            queries={"{{state}}": f"sum by (state) (mobile_multimodal_workers{{{SERVER}}})"},
        ),
        Panel(
            title="Workers replaced in 15 minutes",
            queries={
                "{{reason}}": f"sum by (reason) (increase(mobile_multimodal_worker_restarts_total{{{SERVER}}}[15m]))"
            },
        ),
        Panel(
            title="Memory",
            queries={
                "worker {{worker}} {{instance}}": f"mobile_multimodal_worker_resident_bytes{{{SERVER}}}",
                "front {{instance}}": f"process_resident_memory_bytes{{{SERVER}}}",
            },
            unit="bytes",
            bound=400e6,
        ),
        Panel(
            title="Processor of the front",
            queries={"{{instance}}": f"rate(process_cpu_seconds_total{{{SERVER}}}[$__rate_interval])"},
            about="One event loop: at 1 it is the bottleneck.",
        ),
        Panel(
            title="Open files and connections of the front",
            queries={
                "{{instance}}": f"process_open_fds{{{SERVER}}}",
                "limit {{instance}}": f"process_max_fds{{{SERVER}}}",
            },
        ),
        Panel(
            title="Versions",
            queries={
                "{{instance}}: {{model}} {{version}} {{isa}}": "sum by (instance, model, model_version, version, isa) "
                f"(mobile_multimodal_info{{{SERVER}}})"
            },
            about="More than one model version at a time is a rollout, or a mistake.",
        ),
    ],
}


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS.items():
        panels.append(_placed({"type": "row", "title": title, "panels": []}, len(panels), 0, top, COLUMNS, 1))
        top, left = top + 1, 0
        for panel in row:
            if left + panel.width > COLUMNS:
                top, left = top + HEIGHT, 0
            panels.append(_placed(_panel(panel), len(panels), left, top, panel.width, HEIGHT))
            left += panel.width
        top += HEIGHT
    return {
        "uid": "mobile-multimodal",
        "title": "mobile-mm serve",
        "tags": ["mobile-multimodal"],
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "schemaVersion": 39,
        "templating": {"list": [_data_source(), _selector("job", ""), _selector("instance", 'job=~"$job"')]},
        "links": [{"title": "Runbooks", "type": "link", "url": "docs/runbooks/README.md"}],
        "panels": panels,
    }


def _placed(panel: dict[str, Any], number: int, left: int, top: int, width: int, height: int) -> dict[str, Any]:
    return {"id": number + 1, **panel, "gridPos": {"x": left, "y": top, "w": width, "h": height}}


def _panel(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    defaults: dict[str, Any] = {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}}
    if panel.bound is not None:
        steps.append({"color": "red", "value": panel.bound})
    if panel.kind == "timeseries":
        style = "dashed" if panel.bound is not None else "off"
        defaults |= {"min": 0, "custom": {"thresholdsStyle": {"mode": style}}}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": {"type": "prometheus", "uid": "${source}"},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + number), "expr": query, "legendFormat": legend}
            for number, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def _data_source() -> dict[str, Any]:
    return {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _selector(label: str, within: str) -> dict[str, Any]:
    """A list of the label's values to choose from, all at first."""
    query = f"label_values(mobile_multimodal_info{{{within}}}, {label})"
    return {
        "name": label,
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${source}"},
        "query": query,
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
    }


def main() -> None:
    """Writes the file that Grafana imports."""
    OUTPUT.write_text(json.dumps(dashboard(), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
