"""The layout of the page."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import gradio as gr

from qwen3_reranker.markup import tag
from qwen3_reranker.model.template import DEFAULT_INSTRUCTION
from qwen3_reranker.playground.documents import FILE_TYPES
from qwen3_reranker.playground.examples import EXAMPLES
from qwen3_reranker.playground.inputs import Inputs, LongDocuments
from qwen3_reranker.playground.models import Models

__all__ = ["Components"]

_MODES: dict[LongDocuments, str] = {"cut": "Cut off the end", "passages": "Score passages"}
_EMPTY = (
    "Enter a query and documents, or choose an example, and press Rank. The documents appear here, "
    "best first."
)


class Components:
    """
    The components of a page, which are made within a `gr.Blocks`.

    Those that a user enters something into have the names of the fields of `Inputs`.

    Args:
        models: The models of the page.

    Attributes:
        inputs: The components that are read to rank, in the order of the fields of `Inputs`.
    """

    def __init__(self, models: Models) -> None:
        self._models = models
        self._header()
        with gr.Row(elem_classes="page"):
            with gr.Column(scale=2, min_width=300, elem_classes="entry"):
                self._entry()
            with gr.Column(scale=3, min_width=300, elem_classes="output"):
                self._output()
        self.link = gr.Textbox(visible="hidden")
        self.saved = gr.Textbox(visible="hidden")
        self.result = gr.State(None)
        self.inputs: list[Any] = [getattr(self, field.name) for field in fields(Inputs)]

    def _header(self) -> None:
        with gr.Row(elem_classes="header"):
            gr.HTML(
                tag(
                    "div",
                    tag("h1", "Reranker playground"),
                    tag("p", ", ".join(self._models.names)),
                )
            )
            self.theme = gr.Button("Light or dark", size="sm", scale=0, min_width=130)
        with gr.Row(elem_classes="examples"):
            gr.HTML(tag("span", "Examples"))
            self.examples = {name: gr.Button(name, size="sm", scale=0) for name in EXAMPLES}

    def _entry(self) -> None:
        models = self._models
        self.query = gr.Textbox(label="Query", lines=1, max_lines=4, placeholder="A question")
        self.instruction = gr.Textbox(
            label="Instruction",
            lines=1,
            max_lines=4,
            placeholder=models.find("").instruction or DEFAULT_INSTRUCTION,
        )
        self.text = gr.Textbox(
            label="Documents",
            lines=8,
            max_lines=12,
            placeholder="Paste documents here, with a blank line between two of them.",
        )
        self.file = gr.State(None)
        with gr.Row(visible=False, elem_classes="opened") as self.opened:
            self.file_summary = gr.HTML()
            self.close = gr.Button("Remove the file", size="sm", scale=0)
        with gr.Row(elem_classes="sources"):
            self.upload = gr.UploadButton(
                "Open a file", size="sm", file_types=list(FILE_TYPES), scale=0
            )
            self.separator = gr.Radio(
                ["blank lines", "line breaks"],
                value="blank lines",
                label="Documents are separated by",
            )
        self.field = gr.Dropdown(
            [], value=None, label="Key or column with the text", visible=False, interactive=True
        )
        with gr.Accordion("What to keep, and long documents", open=False):
            with gr.Row():
                self.top_n = gr.Number(None, label="top_n", info="At most this many", precision=0)
                self.min_score = gr.Number(
                    None, label="min_score", info="At least this P(yes)", step=0.05
                )
            self.long_documents = gr.Radio(
                [(_MODES[mode], mode) for mode in models.modes],
                value=models.modes[0],
                label="Documents that are too long for one prompt",
                visible=len(models.modes) > 1,
            )
        self.model = self._model_choice("Model")
        with gr.Accordion("Compare", open=False) as self.comparison:
            self.compare = gr.Checkbox(label="Rank a second time, with these settings")
            self.other_instruction = gr.Textbox(
                label="Second instruction",
                lines=1,
                max_lines=4,
                placeholder="The same as above",
            )
            self.other_model = self._model_choice("Second model")
        with gr.Column(elem_classes="run"):
            self.message = gr.HTML(elem_id="message")
            self.rank = gr.Button("Rank", variant="primary", elem_id="rank")
            self.stop = gr.Button("Stop", variant="stop", visible=False, elem_id="stop")

    def _model_choice(self, label: str) -> gr.Dropdown:
        names = self._models.names
        return gr.Dropdown(names, value=names[0], label=label, visible=len(names) > 1)

    def _output(self) -> None:
        with gr.Tabs():
            with gr.Tab("Ranking"):
                self.ranking = gr.HTML(_EMPTY, elem_id="ranking")
            with gr.Tab("Prompt"):
                with gr.Row():
                    self.document = gr.Dropdown(
                        [], label="Document", interactive=True, scale=3, visible=False
                    )
                    self.side = gr.Radio(
                        [("A", 0), ("B", 1)], value=0, label="Setting", scale=1, visible=False
                    )
                self.prompt = gr.HTML(
                    tag("p", "The prompt of each document appears here.", class_="empty"),
                    elem_id="prompt",
                )
        with gr.Row(elem_classes="actions"):
            self.share = gr.Button("Copy a link to these inputs", size="sm", scale=0)
            self.save = gr.Button("Save as JSON", size="sm", scale=0, interactive=False)
