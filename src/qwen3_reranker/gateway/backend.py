"""What scores the requests of a gateway: one reranker, or several that share an engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qwen3_reranker import event_loop
from qwen3_reranker.errors import InputError
from qwen3_reranker.gateway.api.job import Job
from qwen3_reranker.gateway.config import AliasConfig, GatewayConfig
from qwen3_reranker.gateway.errors import GatewayError, OrderKeptError
from qwen3_reranker.ranking import Ranking
from qwen3_reranker.reranker import Reranker

__all__ = ["Alias", "Backend", "MakeReranker"]

MakeReranker = Callable[..., Reranker]
"""Makes a reranker with the options for long documents that it is given, such as
`functools.partial(Reranker, "demo")`."""

# The name of a model that its server serves without one.
_UNNAMED = "reranker"


@dataclass(frozen=True, slots=True)
class Alias:
    """
    A name that a request may give as its model, and how it is scored.

    Attributes:
        name: The name; None for the model itself.
        config: How documents are scored and selected.
        reranker: What scores them.
    """

    name: str | None
    config: AliasConfig
    reranker: Reranker

    @property
    def counts_tokens(self) -> bool:
        """Whether documents are scored or selected with the help of the model's tokenizer."""
        selection = self.config.selection
        budget = selection.get("token_budget") is not None
        counted = budget and selection.get("token_counter") is None
        return counted or self.reranker.long_documents == "passages"

    async def rank(self, job: Job) -> list[Ranking]:
        """
        Rank the documents of each query of a job.

        Raises:
            OrderKeptError: Scoring failed, and the reranker kept the order of the documents.
            RerankerError: An argument cannot be used, or scoring failed.
        """
        config = self.config
        instruction = config.instruction if job.instruction is None else job.instruction
        options: dict[str, Any] = {}
        if job.selects:
            top_n = config.top_n if job.top_n is None else job.top_n
            options = {"top_n": top_n, "min_score": config.min_score, **config.selection}
        rankings = await event_loop.gather(
            self.reranker.arerank(query, documents, instruction=instruction, **options)
            for query, documents in job.queries
        )
        for ranking in rankings:
            if ranking and (reason := ranking[0].error):
                raise OrderKeptError(reason)
        return rankings


class Backend:
    """
    The model and the aliases of a gateway.

    Args:
        reranker: Scores all requests. A function that makes rerankers is called once for each
            different setting of long documents; the rerankers that it makes share an engine, and
            belong to the backend.
        config: The aliases.

    Attributes:
        rerankers: What scores; the first one for requests that name no alias.

    Raises:
        InputError: An alias has options for long documents, and `reranker` is a reranker; or an
            alias is named like the model.
    """

    def __init__(self, reranker: Reranker | MakeReranker, config: GatewayConfig) -> None:
        self._config = config
        self._owns = not isinstance(reranker, Reranker)
        made: dict[Any, Reranker] = {}

        def reranker_for(options: AliasConfig) -> Reranker:
            if isinstance(reranker, Reranker):
                if options.long_documents:
                    raise InputError(
                        "long_documents= is set in the configuration of the gateway: give "
                        "create_app() a function that makes rerankers, such as "
                        "functools.partial(Reranker, model)"
                    )
                return reranker
            key = tuple(sorted(options.long_documents.items()))
            if key not in made:
                made[key] = reranker(**options.long_documents)
            return made[key]

        default = config.default
        self.default = Alias(None, default, reranker_for(default))
        self.aliases = {
            name: Alias(name, merged, reranker_for(merged))
            for name, alias in config.aliases.items()
            for merged in [alias.inherit(default)]
        }
        self.rerankers = list(dict.fromkeys([self.default.reranker, *made.values()]))
        # Until a server has named the model, a reranker goes by a server's URL.
        self._urls = self.default.reranker.stats().endpoints.keys()
        self._detected = False
        self._check_names()

    @property
    def known_model(self) -> str | None:
        """The model's name, as clients give it. None until the servers that name it are known."""
        name = self._config.model or self.default.reranker.model
        if name not in self._urls:
            return name
        return _UNNAMED if self._detected else None

    @property
    def model(self) -> str:
        """
        The model's name, as clients give it.

        Raises:
            GatewayError: The servers that name it have not been detected yet.
        """
        if (name := self.known_model) is None:
            message = "the servers behind the gateway are not known yet: try again later"
            raise GatewayError(503, message, retry_after=1)
        return name

    @property
    def names(self) -> list[str]:
        """The names that a request may give, that of the model first."""
        return [self.model, *self.aliases]

    async def identify(self) -> None:
        """
        Detect the servers if the name of the model depends on them.

        Raises:
            RerankerError: They cannot be detected.
        """
        if self.known_model is None:
            await self.default.reranker.awarm_up()
            self._detected = True

    def alias(self, name: str | None) -> Alias:
        """
        Return how a request with a model's name is scored.

        Without aliases there is only one model, so any name means it: platforms send whatever their
        user typed, or a name such as "rerank-v3.5" that their library fills in. With aliases a name
        that is not known is an error, because a mistyped alias would be scored with another
        instruction, and nobody would notice.

        Raises:
            GatewayError: The name is not known, or cannot be told from that of the model yet.
        """
        if name is None or not name.strip() or not self.aliases:
            return self.default
        if name in self.aliases:
            return self.aliases[name]
        if name == self.model:
            return self.default
        names = ", ".join(map(repr, self.names))
        raise GatewayError(404, f"the model {name!r:.200} is not served: give one of {names}")

    async def start(self) -> None:
        """
        Start the engine, or detect the servers, and check that every alias can be used.

        Raises:
            InputError: An alias is named like the model, or there is no tokenizer to count the
                tokens with for passages or a token budget.
            RerankerError: The engine did not start, or the servers cannot be detected.
        """
        for reranker in self.rerankers:
            await reranker.awarm_up()
        self._detected = True
        self._check_names()
        for alias in (self.default, *self.aliases.values()):
            if alias.counts_tokens:
                await alias.reranker.atoken_counter()

    async def aclose(self) -> None:
        """Close the rerankers that were made here."""
        if self._owns:
            for reranker in self.rerankers:
                await reranker.aclose()

    def _check_names(self) -> None:
        if (name := self.known_model) in self.aliases:
            raise InputError(f"the alias {name!r} is named like the model: rename one")
