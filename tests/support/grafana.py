"""The Grafana dashboard of the gateway, which the documentation offers as a file."""

from __future__ import annotations

import json
import re
from itertools import count
from typing import Any

from support.docs_pages import DOCS

__all__ = ["DASHBOARD_FILE", "dashboard_text", "expressions", "metric_names"]

DASHBOARD_FILE = DOCS / "assets" / "grafana-dashboard.json"

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
# What the variables of the dashboard select.
_CHOSEN = 'job=~"$job",instance=~"$instance"'
_P = "qwen3_reranker"
_COLUMNS, _HEIGHT = 24, 8


def _rate(name: str, by: str = "") -> str:
    """Return the increase per second of a counter, added up over the gateways."""
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({_P}_{name}{{{_CHOSEN}}}[$__rate_interval]))"


def _gauge(name: str, by: str) -> str:
    return f"sum by ({by}) ({_P}_{name}{{{_CHOSEN}}})"


def _quantile(share: float, name: str) -> str:
    return f"histogram_quantile({share}, {_rate(f'{name}_seconds_bucket', 'le')})"


def _share(part: str, whole: str) -> str:
    # Where nothing was counted the share is 0, not unknown.
    return f"({part} or vector(0)) / clamp_min({whole}, 1e-9)"


_FAILED = _rate("requests_total").replace(_CHOSEN, f'{_CHOSEN},api!="other",status=~"5.."')
_ALL = _rate("requests_total").replace(_CHOSEN, f'{_CHOSEN},api!="other"')


def _quantiles(name: str) -> list[tuple[str, str]]:
    return [(_quantile(share, name), f"p{share * 100:g}") for share in (0.5, 0.95, 0.99)]


def _increase(name: str, by: str) -> str:
    return f"sum by ({by}) (increase({_P}_{name}{{{_CHOSEN}}}[$__rate_interval]))"


def _backend_panels(kind: str, by: str) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Return the panels of what each server or engine did."""
    legend = f"{{{{{by}}}}}"
    requests, seconds = _rate(f"{kind}_requests_total", by), _rate(f"{kind}_seconds_total", by)
    return [
        ("Requests", "reqps", [(requests, legend)]),
        ("Documents", "ops", [(_rate(f"{kind}_documents_total", by), legend)]),
        ("Tokens", "ops", [(_rate(f"{kind}_tokens_total", by), legend)]),
        ("Seconds per request", "s", [(f"{seconds} / ({requests} > 0)", legend)]),
    ]


_INSTANCE = "{{instance}}"
_CPU = f"rate(process_cpu_seconds_total{{{_CHOSEN}}}[$__rate_interval])"
_MEMORY = f"process_resident_memory_bytes{{{_CHOSEN}}}"
_UP = f"min by (url) ({_P}_upstream_up{{{_CHOSEN}}})"
_CUT = _share(_rate("truncated_documents_total"), _rate("documents_total"))
_CACHED = _share(_rate("cached_scores_total"), _rate("documents_total"))

# The panels of each row: title, unit, and queries with their legends.
_ROWS: dict[str, list[tuple[str, str, list[tuple[str, str]]]]] = {
    "Traffic": [
        ("Requests", "reqps", [(_rate("requests_total", "api, status"), "{{api}} {{status}}")]),
        ("Documents", "ops", [(_rate("documents_total", "model"), "{{model}}")]),
        ("Tokens", "ops", [(_rate("tokens_total", "model"), "{{model}}")]),
        ("Share of requests that failed (5xx)", "percentunit", [(_share(_FAILED, _ALL), "5xx")]),
    ],
    "Latency": [
        ("Whole request", "s", _quantiles("request_duration")),
        ("In the queue", "s", _quantiles("queue_duration")),
        ("Scoring", "s", _quantiles("scoring_duration")),
        ("Documents cut, and cached", "percentunit", [(_CUT, "cut"), (_CACHED, "cached")]),
    ],
    "Load": [
        ("Ready", "short", [(_gauge("ready", "instance"), _INSTANCE)]),
        (
            "In progress, and in the queue",
            "short",
            [
                (_gauge("requests_in_progress", "instance"), f"in progress {_INSTANCE}"),
                (_gauge("requests_queued", "instance"), f"in the queue {_INSTANCE}"),
            ],
        ),
        ("CPU cores of the gateway", "short", [(_CPU, _INSTANCE)]),
        ("Memory of the gateway", "bytes", [(_MEMORY, _INSTANCE)]),
    ],
    "Servers": [
        ("In use (0: backing off)", "short", [(_UP, "{{url}}")]),
        *_backend_panels("upstream", "url"),
        ("Failures", "short", [(_increase("upstream_failures_total", "url"), "{{url}}")]),
    ],
    "Engines": [
        *_backend_panels("engine", "device"),
        ("Failures", "short", [(_increase("engine_failures_total", "device"), "{{device}}")]),
        ("Restarts", "short", [(_increase("engine_restarts_total", "device"), "{{device}}")]),
    ],
}


def dashboard_text() -> str:
    """Return the dashboard in the JSON that Grafana imports."""
    numbers = count(1)
    panels: list[dict[str, Any]] = []
    top = 0
    for row, contents in _ROWS.items():
        place = {"x": 0, "y": top, "w": _COLUMNS, "h": 1}
        panels.append(
            {"id": next(numbers), "type": "row", "title": row, "gridPos": place, "panels": []}
        )
        width = _COLUMNS // len(contents)
        for column, (title, unit, queries) in enumerate(contents):
            panels.append(
                {
                    "id": next(numbers),
                    "type": "timeseries",
                    "title": title,
                    "datasource": _SOURCE,
                    "gridPos": {"x": column * width, "y": top + 1, "w": width, "h": _HEIGHT},
                    "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
                    "options": {
                        "legend": {"displayMode": "list", "placement": "bottom"},
                        "tooltip": {"mode": "multi", "sort": "desc"},
                    },
                    "targets": [
                        {
                            "refId": chr(ord("A") + place),
                            "datasource": _SOURCE,
                            "expr": query,
                            "legendFormat": legend,
                        }
                        for place, (query, legend) in enumerate(queries)
                    ],
                }
            )
        top += 1 + _HEIGHT
    dashboard = {
        "title": "qwen3-reranker gateway",
        "uid": "qwen3-reranker-gateway",
        "tags": ["qwen3-reranker"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus"},
                _variable("job", f"label_values({_P}_build_info, job)"),
                _variable("instance", f'label_values({_P}_build_info{{job=~"$job"}}, instance)'),
            ]
        },
        "panels": panels,
    }
    return json.dumps(dashboard, indent=1) + "\n"


def _variable(name: str, query: str) -> dict[str, Any]:
    """Return a variable that selects one, several or all values of a label."""
    return {
        "name": name,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def expressions(dashboard: dict[str, Any]) -> list[str]:
    """Return the queries of a dashboard's panels and variables."""
    panels = [
        target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])
    ]
    variables = dashboard["templating"]["list"]
    return panels + [entry["query"]["query"] for entry in variables if entry["type"] == "query"]


def metric_names(expression: str) -> set[str]:
    """Return the names of the metrics in a query."""
    return set(re.findall(rf"\b(?:{_P}|process)_\w+", expression))
