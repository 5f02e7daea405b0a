"""Send requests to a server under examination, as the reranker does, and keep the raw responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from qwen3_reranker.dialects import Dialect, TemplateBy, dialects, require_list
from qwen3_reranker.dialects.base import Text
from qwen3_reranker.doctor.prompt_variants import VARIANTS, Variant
from qwen3_reranker.errors import AnswerError, RerankerError, ServerError
from qwen3_reranker.model.probe import PROBES, Outcome
from qwen3_reranker.redaction import Secret
from qwen3_reranker.remote.base_url import Address
from qwen3_reranker.remote.detection import (
    Answer,
    Basis,
    Detector,
    Route,
    ServerInfo,
    Template,
)
from qwen3_reranker.remote.detection.candidates import candidates, hosted
from qwen3_reranker.remote.detection.identification import identify
from qwen3_reranker.remote.detection.route import total_tokens
from qwen3_reranker.remote.request_encoder import EncodedRequest
from qwen3_reranker.remote.responses import is_absent
from qwen3_reranker.remote.server_client import ServerClient
from qwen3_reranker.remote.transport import Transport

__all__ = ["Answer", "DiagnosticClient", "Probed"]

# Dialects that score any prompt as it is, without a template of the server's, by kind of server.
_RAW = {
    "vLLM": ("vllm-classify", "vllm-generative"),
    "SGLang": ("sglang-score", "sglang-classify"),
}


@dataclass(frozen=True)
class Probed:
    """
    A route, and its answers to the probe.

    Attributes:
        route: The route.
        answers: One answer per query of the probe.
    """

    route: Route
    answers: tuple[Answer, ...]

    @property
    def rows(self) -> list[list[float]]:
        """The numbers as the server gave them, one list per query."""
        return [answer.values for answer in self.answers]

    @property
    def outcome(self) -> Outcome:
        """The result of the probe, with the number of tokens if the dialect counts prompts."""
        tokens = total_tokens(self.answers) if self.route.dialect.counts else None
        return Outcome.read(self.rows, tokens, logits=self.route.dialect.score == "logit")


class DiagnosticClient:
    """
    A server under examination.

    Args:
        address: Its address.
        transport: The connections.
        api_key: The API key. None loads one from the environment.
        model: The model's name on the server. None uses the one that it lists.
        tokenizer: The content of the model's tokenizer.json. None looks for one on this machine.
        timeout: The time limit of each request, in seconds.

    Attributes:
        address: Its address.
        server_info: Its metadata, once `read_metadata()` has read it.
        info: What SGLang reports about its model; empty for other servers.
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
        self._client = ServerClient(address, transport, api_key, timeout, bounded=True)
        self._model = model
        self._tokenizer = tokenizer
        self._basis: Basis | None = None

    async def read_metadata(self, dialect: Dialect | None) -> None:
        """
        Read the server's metadata.

        Args:
            dialect: The dialect; None if it is not known.

        Raises:
            RetryableError: The server answers no request for its metadata.
        """
        self.server_info = await identify(self._client, self.address, self._model, dialect)
        if self.server_info.kind == "SGLang":
            self.info = await self._get("/model_info") or await self._get("/get_model_info")
            version = (await self._get("/server_info")).get("version")
            if self.server_info.version is None and isinstance(version, str):
                self.server_info = replace(self.server_info, version=version)

    def hosted(self) -> list[Dialect]:
        """Return the dialects of the hosted service that the host belongs to, if any."""
        return hosted(self.address)

    def candidates(self) -> list[Dialect]:
        """Return the dialects that the server may speak, the likeliest first."""
        return candidates(self.address, self.server_info)

    async def detect(self, dialect: Dialect | None, template: Template) -> Route:
        """
        Detect the server as the reranker does.

        Args:
            dialect: The dialect; None to detect it.
            template: Who writes the template; "auto" to detect it.

        Raises:
            RerankerError: Detection failed, as in `Detector.run()`.
        """
        return await self._route(self.address, dialect, template)

    async def route_for(
        self, dialect: Dialect, template_by: TemplateBy, *, root: bool = False
    ) -> Route:
        """
        Return the route of a dialect, whether or not the server speaks it.

        Args:
            dialect: The dialect.
            template_by: Whether the client or the server writes the template.
            root: Whether to ignore the endpoint in the base URL.
        """
        return await self._route(self._root if root else self.address, dialect, template_by)

    async def probe(self, route: Route, *, root: bool = False) -> Probed:
        """
        Send the probe on the first path of the dialect that exists.

        Args:
            route: The route.
            root: Whether to ignore the endpoint in the base URL.

        Raises:
            ServerError: The server has none of the paths, refused a request, or failed.
            AnswerError: A response does not contain one number per document.
        """
        fixed = self.address.endpoint is not None and not root
        paths = [route.path] if fixed else list(route.dialect.paths)
        for path in paths:
            candidate = replace(route, path=path)
            try:
                answers = await candidate.probe(self._client)
            except ServerError as error:
                if not is_absent(error) or path == paths[-1]:
                    raise
            else:
                return Probed(candidate, answers)
        raise AnswerError(f"{route.dialect.name} has no path")

    async def probe_all(
        self, candidates: Sequence[Dialect], template_modes: Sequence[TemplateBy]
    ) -> tuple[list[Probed], list[tuple[str, RerankerError]]]:
        """
        Send the probe in several dialects.

        Args:
            candidates: The dialects.
            template_modes: Who may write the template.

        Returns:
            The routes that answered with numbers; and the name of each dialect that did not, with
            its error.
        """
        probed: list[Probed] = []
        failed: list[tuple[str, RerankerError]] = []
        for dialect in candidates:
            for template_by in template_modes:
                if template_by not in dialect.template_modes:
                    continue
                try:
                    probed.append(await self.probe(await self.route_for(dialect, template_by)))
                except RerankerError as error:
                    failed.append((dialect.name, error))
        return probed, failed

    async def raw(self) -> Route | None:
        """Return a route that scores any text as the whole prompt; None if there is none."""
        names: tuple[str, ...] = _RAW.get(self.server_info.kind or "", ())
        if self.server_info.kind == "SGLang":  # /v1/score gives two labels in another order
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
        """
        Return the prompt variant that a vLLM server's own template writes.

        Args:
            route: The route that is examined.

        Returns:
            The variant; None if the server is not a vLLM, does not render its template, or renders
            something unknown.
        """
        if self.server_info.kind != "vLLM" or route.template_by != "server":
            return None
        query, text = PROBES[0][0], PROBES[0][1][0]
        roles = [{"role": "query", "content": query}, {"role": "document", "content": text}]
        try:
            answer = await self.ask(route, query, [text])
            ids = await self._tokens(route, messages=roles)
            if len(ids) != answer.tokens:  # scores come from another template
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
        """
        Score documents as the reranker does, with the same errors.

        Args:
            route: The route.
            query: The query.
            texts: The documents.
            instruction: The instruction; None stands for the default.
        """
        return await route.ask(self._client, await route.encode(query, texts, instruction))

    async def ask_whole(self, route: Route, prompts: Sequence[str]) -> Answer:
        """
        Score whole prompts.

        Args:
            route: A route that `raw()` returned.
            prompts: The prompts.
        """
        return await self.send(route, "", prompts)

    async def send(self, route: Route, query: Text, documents: Sequence[Text]) -> Answer:
        """
        Send a query and documents as they are, without escaping or truncation.

        Args:
            route: The route.
            query: The query, or the prompt up to the document.
            documents: The documents, or the rest of each prompt.
        """
        encoded = EncodedRequest(query, list(documents), [False] * len(documents))
        return await route.ask(self._client, encoded)

    async def _tokens(self, route: Route, **fields: Any) -> list[Any]:
        body = {"model": route.model, "add_special_tokens": False, **fields}
        response = await self._client.post("/tokenize", body)
        return response.read(lambda answer: require_list(answer, "tokens"))

    async def _get(self, path: str) -> dict[str, Any]:
        try:
            answer = await self._client.get(path)
        except ServerError:
            return {}
        return answer if isinstance(answer, dict) else {}

    async def _route(self, address: Address, dialect: Dialect | None, template: Template) -> Route:
        """Return the result of a detection. Only the first one reads the server's metadata."""
        detector = Detector(
            self._client,
            address=address,
            basis=self._basis,
            dialect=dialect,
            template=template,
            model=self._model,
            tokenizer=self._tokenizer,
            max_length=None,
        )
        self._basis = await detector.read_basis()
        return await detector.run()
