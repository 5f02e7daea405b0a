"""The playground beside a gateway."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from qwen3_reranker.closing import closed_after

if TYPE_CHECKING:
    from fastapi import FastAPI

    from qwen3_reranker.gateway import Limits, MakeReranker
    from qwen3_reranker.gateway.backend import Backend
    from qwen3_reranker.reranker import Reranker

__all__ = ["PAGE", "add_page"]

PAGE = "/playground"
"""The path of the playground."""


def add_page(
    app: FastAPI,
    make: MakeReranker,
    limits: Limits,
    explain: Callable[[str], str],
    stack: ExitStack,
) -> None:
    """
    Add the playground to a gateway, with its aliases as models and under its limits.

    Args:
        app: The gateway, as `create_app()` returned it.
        make: Makes a reranker with the options for long documents that it is given. The page has
            rerankers of its own, which share the gateway's engine.
        limits: What a request may contain.
        explain: Changes the messages of errors for those who see the page.
        stack: Closes the rerankers of the page.

    Raises:
        MissingDependencyError: gradio is not installed.
    """
    from starlette.middleware import Middleware

    from qwen3_reranker.gateway.page_limits import GatewayPageLimits, LimitBodies
    from qwen3_reranker.playground import mount_page  # says if gradio is missing
    from qwen3_reranker.playground.models import Models, PageModel, long_document_modes
    from qwen3_reranker.playground.page import page_of

    made: dict[Any, Reranker] = {}

    def reranker_for(options: dict[str, Any]) -> Reranker:
        key = tuple(sorted(options.items()))
        if key not in made:
            made[key] = stack.enter_context(closed_after(make(**options)))
        return made[key]

    backend: Backend = app.state.backend
    models = []
    for alias in (backend.default, *backend.aliases.values()):
        modes = map(reranker_for, long_document_modes(alias.config.long_documents))
        rerankers = {reranker.long_documents: reranker for reranker in modes}
        # Servers are detected later, and what they call the model is not known until then.
        name = alias.name or backend.known_model or "the model"
        models.append(PageModel(name, alias.config.instruction, rerankers))
    page_limits = GatewayPageLimits(limits, app.state.admission)
    mount_page(app, page_of(Models(models, explain, page_limits)), PAGE)
    # The innermost, because the gateway checks the key first, and logs what is refused.
    app.user_middleware.append(Middleware(LimitBodies, path=PAGE, limit=limits.max_body))
