"""How the doctor asks a server: as the reranker does, but seeing the raw answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

from qwen3_reranker.dialects import Dialect, ScoreRequest, TemplateBy, dialects, require_list
from qwen3_reranker.dialects.base import Text
from qwen3_reranker.doctor.prompt_variants import VARIANTS, Variant
from qwen3_reranker.errors import AnswerError, RerankerError, ServerError
from qwen3_reranker.model.probe import PROBES, Outcome
from qwen3_reranker.redaction import Secret
from qwen3_reranker.remote.base_url import Address
from qwen3_reranker.remote.detection import Detector, Route, ServerInfo, Template, read_server_info
from qwen3_reranker.remote.detection.candidates import candidates, hosted, of_kind
from qwen3_reranker.remote.server_client import ServerClient
from qwen3_reranker.remote.transport import Read, Transport

__all__ = ["Answer", "DiagnosticClient", "Probed"]

# What scores any prompt that it is sent, and puts no template around it.
_RAW = {
    "vLLM": ("vllm-classify", "vllm-generative"),
    "SGLang": ("sglang-score", "sglang-classify"),
}


@dataclass(frozen=True)
class Answer:
    """One answer: a number a document as on the wire, the tokens counted, all of it, the time."""

    values: list[float]
    tokens: int | None
    raw: Any
    seconds: float


@dataclass(frozen=True)
class Probed:
    """One way to ask a server, and what it answered to the probe."""

    route: Route
    answers: tuple[Answer, ...]

    @property
    def rows(self) -> list[list[float]]:
        """The numbers as on the wire."""
        return [answer.values for answer in self.answers]

    @property
    def outcome(self) -> Outcome:
        """The probe's outcome, with the tokens of the prompts where the dialect counts them."""
        counted = [answer.tokens for answer in self.answers]
        known = self.route.dialect.counts and None not in counted
        tokens = sum(n for n in counted if n is not None) if known else None
        return Outcome.read(self.rows, tokens, logits=self.route.dialect.score == "logit")


class DiagnosticClient:
    """
    A server to examine.

    Args:
        address: Where it is.
        transport: How it is reached.
        api_key: The key; None takes the environment's.
        model: The name that it knows the model by; None takes what it lists.
        tokenizer: The content of a tokenizer.json; None looks for one.
        timeout: The most seconds for a request.
    """

    def __init__(
        self,
        address: Address,
        transport: Transport,
        *,
        api_key: Secret | None,
        model: str | None,
        tokenizer: str | None,
        timeout: float,
    ) -> None:
        self.address = address
        self.server_info = ServerInfo()
        self.info: Mapping[str, Any] = {}
        self._root = replace(address, url=address.origin + address.prefix, endpoint=None, rest="")
        self._client = ServerClient(address, transport, api_key, timeout)
        self._model = model
        self._tokenizer = tokenizer

    async def look(self) -> None:
        """
        Read what the server says of itself.

        Raises:
            RetryableError: It cannot be reached.
        """
        self._client.adopt_key(self.hosted())
        if self.hosted():
            return
        self.server_info = await read_server_info(self.get, self._model)
        if self._client.adopt_key(of_kind(self.server_info)):
            self.server_info = await read_server_info(self.get, self._model)
        if self.server_info.kind == "SGLang":
            self.info = await self._about("/model_info")
            version = (await self._about("/server_info")).get("version")
            if self.server_info.version is None and isinstance(version, str):
                self.server_info = replace(self.server_info, version=version)

    def hosted(self) -> list[Dialect]:
        """Return the dialects of the hosted service that the host belongs to, if any."""
        return hosted(self.address)

    def candidates(self) -> list[Dialect]:
        """Return what this server may speak, the likely first."""
        return self.hosted() or candidates(self.address, self.server_info)

    async def detect(self, dialect: Dialect | None, template: Template) -> Route:
        """Find out how the server is asked, as the reranker does; raises as it does."""
        return await self._detector(self.address, dialect, template).run()

    async def route_for(
        self, dialect: Dialect, template_by: TemplateBy, *, root: bool = False
    ) -> Route:
        """Return one way to ask, whatever comes of it; `root` leaves the URL's endpoint out."""
        address = self._root if root else self.address
        return await self._detector(address, dialect, template_by).run()

    async def probe(self, route: Route, *, root: bool = False) -> Probed:
        """Ask the probe's questions, at the first of the dialect's paths that is there."""
        fixed = self.address.endpoint is not None and not root
        paths = [route.path] if fixed else list(route.dialect.paths)
        for path in paths:
            candidate = replace(route, path=path)
            try:
                answers = [await self.ask(candidate, *one) for one in PROBES]
            except ServerError as error:
                if error.status not in (404, 405) or path == paths[-1]:
                    raise
            else:
                return Probed(candidate, tuple(answers))
        raise AnswerError(f"{route.dialect.name} has no path")

    async def probe_all(
        self, candidates: Sequence[Dialect], template_modes: Sequence[TemplateBy]
    ) -> tuple[list[Probed], list[tuple[str, RerankerError]]]:
        """Return each way that answers the probe with numbers, and why the others do not."""
        found: list[Probed] = []
        failed: list[tuple[str, RerankerError]] = []
        for dialect in candidates:
            for template_by in template_modes:
                if template_by not in dialect.template_modes:
                    continue
                try:
                    found.append(await self.probe(await self.route_for(dialect, template_by)))
                except RerankerError as error:
                    failed.append((dialect.name, error))
        return found, failed

    async def raw(self) -> Route | None:
        """Return a way to score any text as the whole prompt, None where there is none."""
        names: tuple[str, ...] = _RAW.get(self.server_info.kind or "", ())
        if self.server_info.kind == "SGLang":  # with two labels the first answers in another order
            names = names[1:] if self.server_info.generates is False else names[:1]
        for dialect in (d for d in dialects() if d.name in names):
            try:
                route = await self.route_for(dialect, "client", root=True)
                await self.ask_whole(route, [PROBES[0][1][0]])
            except RerankerError:
                continue
            return route
        return None

    async def rendered(self, route: Route) -> Variant | None:
        """Return what a vLLM's own template writes, where it renders one and that is known."""
        if self.server_info.kind != "vLLM" or route.template_by != "server":
            return None
        query, text = PROBES[0][0], PROBES[0][1][0]
        roles = [{"role": "query", "content": query}, {"role": "document", "content": text}]
        try:
            answer = await self.ask(route, query, [text])
            ids = await self._tokens(route, messages=roles)
            if len(ids) != answer.tokens:  # another template than the one that is scored with
                return None
            for variant in VARIANTS:
                if ids == await self._tokens(route, prompt=variant.write(query, text)):
                    return variant
        except (ServerError, AnswerError):
            return None
        return None

    async def ask(
        self,
        route: Route,
        query: str,
        texts: Sequence[str],
        instruction: str | None = None,
    ) -> Answer:
        """Score texts as the reranker would."""
        encoded = await route.encoder.encode(
            query, texts, instruction, route.template_by, ids=route.dialect.ids
        )
        carried = encoded.instruction if route.dialect.instruction else None
        return await self.send(route, encoded.query, encoded.documents, carried)

    async def ask_whole(self, route: Route, prompts: Sequence[str]) -> Answer:
        """Score texts as whole prompts, in a way that `raw` returned."""
        return await self.send(route, "", prompts)

    async def send(
        self,
        route: Route,
        query: Text,
        documents: Sequence[Text],
        instruction: str | None = None,
    ) -> Answer:
        """Send what is given as it is."""
        request = ScoreRequest(query, list(documents), instruction, route.model, route.labels)
        http_request = route.dialect.build(request)
        started = perf_counter()

        def read(answer: Any) -> Answer:
            seconds = perf_counter() - started
            values = route.dialect.parse(answer, len(documents))
            return Answer(values, route.dialect.usage(answer), answer, seconds)

        found: Answer = await self.post(http_request.path or route.path, http_request.body, read)
        return found

    async def get(self, path: str) -> Any:
        """Return the JSON answer of a path."""
        return await self._client.get(path)

    async def post(self, path: str, body: Mapping[str, Any], read: Read | None = None) -> Any:
        """Return what `read` finds in the JSON answer of a path to a body."""
        return await self._client.post(path, body, read)

    async def _tokens(self, route: Route, **what: Any) -> list[Any]:
        body = {"model": route.model, "add_special_tokens": False, **what}
        tokens: list[Any] = await self.post(
            "/tokenize", body, lambda answer: require_list(answer, "tokens")
        )
        return tokens

    async def _about(self, path: str) -> dict[str, Any]:
        try:
            found = await self.get(path)
        except ServerError:
            return {}
        return found if isinstance(found, dict) else {}

    def _detector(self, address: Address, dialect: Dialect | None, template: Template) -> Detector:
        return Detector(
            address,
            self.get,
            self.post,
            self._client.adopt_key,
            dialect=dialect,
            template=template,
            model=self._model,
            tokenizer=self._tokenizer,
            max_length=None,
        )
