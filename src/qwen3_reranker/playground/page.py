"""The page: which event does what."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any

import gradio as gr

from qwen3_reranker.errors import InputError
from qwen3_reranker.markup import Html, tag
from qwen3_reranker.playground.cards import MAX_CARDS, result_html
from qwen3_reranker.playground.components import Components
from qwen3_reranker.playground.documents import read_upload
from qwen3_reranker.playground.events import describe_file, prompt_of, run
from qwen3_reranker.playground.examples import EXAMPLES
from qwen3_reranker.playground.export import export_json
from qwen3_reranker.playground.inputs import Inputs
from qwen3_reranker.playground.messages import error_html, notice_html
from qwen3_reranker.playground.models import Models
from qwen3_reranker.playground.ranking import Result
from qwen3_reranker.playground.scripts import (
    COPY_LINK,
    READ_LINK,
    SAVE_FILE,
    SHOW_OUTPUT,
    TOGGLE_THEME,
)
from qwen3_reranker.playground.state_link import MAX_LINK, read_link, write_link
from qwen3_reranker.reranker import Reranker

__all__ = ["create_page", "page_of"]

# How often uploaded files are looked at, and after how many seconds they are deleted.
_DELETE_UPLOADS = (300, 3600)
_Changes = dict[Any, Any]
# What a function returns that changes nothing; gradio does not take an empty dict.
_UNCHANGED: _Changes = gr.skip()


def create_page(*rerankers: Reranker, explain: Callable[[str], str] | None = None) -> gr.Blocks:
    """
    Return a page on which a ranking can be understood.

    It shows the rank of each document and how it moved, P(yes), what was cut off, the passage that
    counted, the prompt as the model reads it, and the ranking of a second instruction or model
    beside the first. Serve it with `mount_page()`.

    Args:
        *rerankers: What scores. The page offers a choice of their models, and of how long documents
            are scored if there are rerankers for both, as in the example. The first one is the
            default. They are not closed by the page.
        explain: Changes the messages of errors before the page shows them. They name arguments of
            `Reranker`, which whoever uses the page may not know. None leaves them as they are.

    Raises:
        InputError: There are none.

    Example:
        ```python
        from fastapi import FastAPI
        from qwen3_reranker import Reranker
        from qwen3_reranker.playground import create_page, mount_page

        app = FastAPI()
        rerankers = Reranker("demo"), Reranker("demo", long_documents="passages")
        mount_page(app, create_page(*rerankers), path="/playground")
        ```
    """
    return page_of(Models.of(rerankers, explain))


def page_of(models: Models) -> gr.Blocks:
    """Return a page with models, as `create_page()` does for rerankers."""
    return _Page(models).blocks


class _Page:
    """What the events of a page do. Functions return the components that change, and how."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self.blocks = gr.Blocks(
            title="Reranker playground",
            analytics_enabled=False,
            delete_cache=_DELETE_UPLOADS,
        )
        with self.blocks:
            self._shown = Components(models)
            self._connect()

    def _connect(self) -> None:
        shown = self._shown
        filled = [*shown.inputs, shown.opened, shown.file_summary, shown.comparison, shown.message]
        results = [
            *(shown.message, shown.result, shown.ranking, shown.document, shown.side, shown.save),
            *(shown.rank, shown.stop),
        ]
        self._on([shown.link], self.blocks.load, self._restore, filled, js=READ_LINK)
        for name, button in shown.examples.items():
            self._on([], button.click, partial(self._fill, EXAMPLES[name]), filled)
        self._on([shown.upload, *shown.inputs], shown.upload.upload, self._open_file, filled)
        self._on(shown.inputs, shown.close.click, self._close_file, filled)
        for changed in (shown.field, shown.separator):
            self._on(shown.inputs, changed.input, self._read_again, filled)

        entered = [shown.result, *shown.inputs]
        # One event for both, so that a run cannot be started while another one goes on.
        start = partial(gr.on, [shown.rank.click, shown.query.submit])
        started = self._on(entered, start, self._run, results, concurrency_limit=None)
        started.then(None, None, None, js=SHOW_OUTPUT)
        chosen = [shown.result, shown.document, shown.side]
        for event in (started.then, shown.document.input, shown.side.input):
            self._on(chosen, event, self._show_prompt, [shown.prompt])
        self._on([shown.result], shown.stop.click, self._stop, results, cancels=[started])

        link = [shown.link, shown.message]
        linked = self._on(shown.inputs, shown.share.click, self._write_link, link)
        linked.then(None, [shown.link], None, js=COPY_LINK)
        saved = self._on([shown.result], shown.save.click, self._export, [shown.saved])
        saved.then(None, [shown.saved], None, js=SAVE_FILE)
        shown.theme.click(None, None, None, js=TOGGLE_THEME)

    @staticmethod
    def _on(
        inputs: list[Any],
        event: Callable[..., Any],
        function: Callable[..., Any],
        outputs: list[Any],
        **options: Any,
    ) -> Any:
        return event(
            function,
            inputs,
            outputs,
            show_progress="hidden",
            api_visibility="private",
            **options,
        )

    def _inputs(self, values: Sequence[Any]) -> Inputs:
        """Return what was entered. A component that was emptied has None or a blank string."""
        names = [field.name for field in fields(Inputs)]
        entered = dict(zip(names, values, strict=True))
        return Inputs(**{name: value for name, value in entered.items() if value is not None})

    async def _run(self, result: Result | None, *values: Any) -> AsyncIterator[_Changes]:
        shown = self._shown
        inputs = self._inputs(values)
        async for update in run(inputs, self._models, has_result=result is not None):
            changes = {shown.message: update.message, **self._buttons(running=update.running)}
            if update.result is not None:
                changes |= self._show_result(update.result)
            yield changes

    def _buttons(self, *, running: bool) -> _Changes:
        shown = self._shown
        return {shown.rank: gr.update(visible=not running), shown.stop: gr.update(visible=running)}

    def _show_result(self, result: Result) -> _Changes:
        shown = self._shown
        hits = result.rankings[0].hits[:MAX_CARDS]
        titles = [f"{rank}. {' '.join(hit.text.split())[:60]}" for rank, hit in enumerate(hits, 1)]
        choices = [(title, rank) for rank, title in enumerate(titles)]
        return {
            shown.result: result,
            shown.ranking: result_html(result),
            shown.document: gr.update(choices=choices, value=0, visible=True),
            shown.side: gr.update(value=0, visible=len(result.rankings) > 1),
            shown.save: gr.update(interactive=True),
        }

    def _show_prompt(self, result: Result | None, rank: int | None, side: int) -> _Changes:
        if result is None or rank is None:
            return _UNCHANGED
        return {self._shown.prompt: prompt_of(result, self._models, rank, side)}

    def _stop(self, result: Result | None) -> _Changes:
        rest = "" if result is None else " The last result is still here."
        return {self._shown.message: notice_html(f"Stopped.{rest}"), **self._buttons(running=False)}

    def _open_file(self, path: str, *values: Any) -> _Changes:
        try:
            file = read_upload(path)
            inputs = replace(self._inputs(values), file=file, field="")
            return {**self._show_file(inputs), self._shown.message: Html()}
        except InputError as error:
            return {self._shown.message: error_html(error)}

    def _close_file(self, *values: Any) -> _Changes:
        inputs = replace(self._inputs(values), file=None, field="")
        return {**self._show_file(inputs), self._shown.message: Html()}

    def _read_again(self, *values: Any) -> _Changes:
        inputs = self._inputs(values)
        if inputs.file is None:
            return _UNCHANGED
        try:
            return {**self._show_file(inputs), self._shown.message: Html()}
        except InputError as error:
            return {self._shown.message: error_html(error)}

    def _show_file(self, inputs: Inputs) -> _Changes:
        """
        Show the file, or the pasted text if there is none.

        Raises:
            InputError: The file cannot be read.
        """
        shown = self._shown
        summary, names = ("", []) if inputs.file is None else describe_file(inputs)
        field = inputs.field if inputs.field in names else ""
        choices = [("the usual names", ""), *((name, name) for name in names)]
        return {
            shown.file: inputs.file,
            shown.text: gr.update(visible=inputs.file is None),
            shown.opened: gr.update(visible=inputs.file is not None),
            shown.file_summary: tag("p", summary),
            shown.field: gr.update(choices=choices, value=field, visible=bool(names)),
        }

    def _fill(self, inputs: Inputs) -> _Changes:
        """Enter inputs into the page, with only what its components can have."""
        shown, models = self._shown, self._models
        model = inputs.model or models.names[0]
        mode = inputs.long_documents if inputs.long_documents in models.modes else models.modes[0]
        values = replace(
            inputs, model=model, other_model=inputs.other_model or model, long_documents=mode
        )
        return {
            **{
                component: getattr(values, field.name)
                for field, component in zip(fields(Inputs), shown.inputs, strict=True)
            },
            **self._show_file(inputs),
            shown.text: gr.update(value=inputs.text, visible=inputs.file is None),
            shown.comparison: gr.update(open=inputs.compare),
            shown.message: Html(),
        }

    def _restore(self, fragment: str) -> _Changes:
        try:
            inputs = read_link(fragment or "")
            if inputs is None:
                return _UNCHANGED
            for model in filter(None, [inputs.model, inputs.other_model]):
                self._models.find(model)
            changes = self._fill(inputs)
        except InputError as error:
            return {self._shown.message: error_html(error)}
        if inputs.long_documents not in self._models.modes:
            text = "This page does not score long documents as the page of the link did."
            changes[self._shown.message] = notice_html(text)
        return changes

    def _write_link(self, *values: Any) -> _Changes:
        shown = self._shown
        try:
            link = write_link(self._inputs(values))
        except InputError as error:
            return {shown.link: "", shown.message: error_html(error)}
        text = "The address of this page now restores these inputs."
        if not link.complete:
            text = (
                "The documents are too long for a link, so the address of this page now restores "
                f"everything but them: a link has at most {MAX_LINK} characters."
            )
        copied = tag("span", " The address is copied.", class_="copied")
        return {shown.link: link.fragment, shown.message: notice_html(text, copied)}

    def _export(self, result: Result | None) -> _Changes:
        return _UNCHANGED if result is None else {self._shown.saved: export_json(result)}
