"""The Grafana dashboard: it shows what the gateway measures."""

from __future__ import annotations

import json
import re

from support.gateway import RelevanceScorer, gateway
from support.grafana import DASHBOARD_FILE, dashboard_text, expressions, metric_names

# The series of a histogram.
_SUFFIX = re.compile("_(bucket|sum|count)$")


def test_the_file_is_up_to_date() -> None:
    """`PYTHONPATH=tests python -m support.docs_generated` writes it."""
    assert DASHBOARD_FILE.read_text("utf-8") == dashboard_text()


async def test_each_metric_in_it_exists() -> None:
    async with gateway(RelevanceScorer()) as client:
        text = (await client.get("/metrics")).text
    kinds = dict(re.findall(r"# TYPE (\S+) (\S+)", text))
    wanted = set[str]().union(*map(metric_names, expressions(json.loads(dashboard_text()))))
    assert len(wanted) > 15
    for name in wanted:
        family = name if name in kinds else _SUFFIX.sub("", name)
        assert family in kinds, name
        assert (kinds[family] == "histogram") == (family != name), name


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
