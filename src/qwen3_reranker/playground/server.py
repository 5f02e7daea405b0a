"""Serve the page."""

from __future__ import annotations

from importlib.resources import files

import gradio as gr
from fastapi import FastAPI
from gradio.themes import Base, colors, sizes

from qwen3_reranker.playground.open_tabs import EndStreams
from qwen3_reranker.playground.scripts import ON_LOAD

__all__ = ["mount_page", "page_app"]


def mount_page(app: FastAPI, page: gr.Blocks, path: str = "/playground") -> None:
    """
    Add a page to a FastAPI application, with its style.

    Nothing is loaded from other hosts.

    Args:
        app: The application.
        page: What `create_page()` returned.
        path: The path of the page.

    Example:
        ```python
        from fastapi import FastAPI
        from qwen3_reranker import Reranker
        from qwen3_reranker.playground import create_page, mount_page

        app = FastAPI()
        mount_page(app, create_page(Reranker("demo")))
        ```
    """
    style = files("qwen3_reranker.playground").joinpath("assets", "style.css").read_text("utf-8")
    gr.mount_gradio_app(
        app,
        page,
        path=path,
        theme=_theme(),
        css=style,
        js=ON_LOAD,
        footer_links=[],
        run_history=False,
        max_file_size="64mb",
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
    )
    app.add_middleware(EndStreams, path=path)


def page_app(page: gr.Blocks) -> FastAPI:
    """
    Return an application that consists of a page.

    Args:
        page: What `create_page()` returned.
    """
    app = FastAPI(openapi_url=None)
    mount_page(app, page, path="/")
    return app


def _theme() -> Base:
    """Return a theme that uses the fonts of the reader's system."""
    return Base(
        primary_hue=colors.indigo,
        neutral_hue=colors.slate,
        radius_size=sizes.radius_sm,
        text_size=sizes.text_md,
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
