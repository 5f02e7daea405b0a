"""Take the picture of a report for docs/how-to/evaluate.md: `make screenshots`."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from qwen3_reranker.evaluation import Dataset, System, evaluate

from support.browser import chromium

REPOSITORY = Path(__file__).parents[2]
EXAMPLES = REPOSITORY / "examples"
PICTURE = REPOSITORY / "docs/assets/report.png"


def dataset() -> Dataset:
    """Return the questions about the standard library that the demo model was not trained on."""
    sys.path.insert(0, str(EXAMPLES))
    import stdlib_docs

    lines = (EXAMPLES / "held_out_questions.jsonl").read_text("utf-8").splitlines()
    questions = {str(number): json.loads(line) for number, line in enumerate(lines)}
    return Dataset(
        {key: row["question"] for key, row in questions.items()},
        {doc.name: doc.text for doc in stdlib_docs.load()},
        {key: dict.fromkeys(row["answers"], 1) for key, row in questions.items()},
        name="Python standard library questions",
    )


def main() -> None:
    systems = System.combinations(
        models=["demo"],
        depths=[10, 20, 50],
        engine="transformers",
        engine_args={"dtype": "float32"},
    )
    report = evaluate(dataset(), systems, progress=True)
    with TemporaryDirectory() as folder, chromium() as browser:
        page = Path(folder, "report.html")
        report.save(page)
        opened = browser.new_page(
            viewport={"width": 1000, "height": 1900}, device_scale_factor=1.5, color_scheme="light"
        )
        opened.goto(page.as_uri())
        Image.open(io.BytesIO(opened.screenshot())).quantize(64).save(PICTURE, optimize=True)
    print(report.summary())


if __name__ == "__main__":
    main()
