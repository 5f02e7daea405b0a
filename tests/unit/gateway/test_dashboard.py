"""The Grafana dashboard: it shows what the gateway measures."""

from __future__ import annotations

import json
import re

from support.docs_pages import DOCS
from support.gateway import RelevanceScorer, gateway
from support.grafana import DASHBOARD_FILE, dashboard_text, expressions, metric_names

# The series of a histogram.
_SUFFIX = re.compile("_(bucket|sum|count)$")


def test_the_file_is_up_to_date() -> None:
    """`PYTHONPATH=tests python -m support.docs_generated` writes it."""
    assert DASHBOARD_FILE.read_text("utf-8") == dashboard_text()


async def measured() -> dict[str, str]:
    """Return the kind of each metric that a gateway has, such as "counter", by its name."""
    async with gateway(RelevanceScorer()) as client:
        text = (await client.get("/metrics")).text
    kinds = re.findall(r"# TYPE (\S+) (\S+)", text)
    return {name: kind for name, kind in kinds if not name.endswith("_created")}


def shown() -> set[str]:
    """Return the names of the metrics in the dashboard."""
    return set[str]().union(*map(metric_names, expressions(json.loads(dashboard_text()))))


async def test_each_metric_in_it_exists() -> None:
    kinds = await measured()
    for name in shown():
        family = name if name in kinds else _SUFFIX.sub("", name)
        assert family in kinds, name
        assert (kinds[family] == "histogram") == (family != name), name


async def test_it_shows_each_metric_of_the_gateway() -> None:
    names = {name for name in await measured() if name.startswith("qwen3_reranker_")}
    assert len(names) > 20
    assert names - shown() == {name for name in names if f"{name}_bucket" in shown()}


def test_no_graph_shows_a_sum_over_its_whole_range() -> None:
    """It would be nearly the same at each point."""
    assert not [query for query in expressions(json.loads(dashboard_text())) if "$__range" in query]


async def test_the_alerts_in_the_documentation_read_metrics_that_exist() -> None:
    kinds = await measured()
    page = (DOCS / "how-to" / "monitoring.md").read_text("utf-8")
    rules = re.findall(r"^    expr: (.*)$", page, re.MULTILINE)
    assert len(rules) == 4
    for rule in rules:
        assert metric_names(rule) and metric_names(rule) <= kinds.keys()
        # Probes are requests of no API. They would hide that most others fail.
        requests = rule.count("qwen3_reranker_requests_total")
        assert rule.count('qwen3_reranker_requests_total{api!="other"') == requests


def test_each_panel_has_its_own_place_and_name() -> None:
    panels = json.loads(dashboard_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for panel in panels
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells) and max(x for x, _ in cells) < 24
