"""
An engine in transformers and torch, in this process: for systems without vLLM (macOS, Windows).

The documents of a query share the beginning of their prompts. It goes through the model once; its
keys and values are then seen by every document. Documents go through in batches of similar length,
and of each only the last position is turned into logits.

Read in transformers 5.5.3 and 5.19.0: with a dictionary of attention masks and explicit positions,
`Qwen3Model.forward` asks nothing of its cache but `update`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from qwen3_reranker.errors import EngineError, InputError, MissingDependencyError
from qwen3_reranker.model.checkpoint import Checkpoint
from qwen3_reranker.model.prompt import PromptBuilder
from qwen3_reranker.redaction import reveal_token

if TYPE_CHECKING:
    import torch

__all__ = ["TransformersClient", "validate_arguments"]

T = TypeVar("T")

# The same words as vLLM's, so that settings can stay where the engine changes.
_ARGUMENTS = ("device", "dtype", "hf_token", "max_num_batched_tokens", "revision")
# Tokens of a batch, shared beginnings and padding included.
_CPU_BATCH = 4096
_GPU_BATCH = 16_384


def validate_arguments(args: Mapping[str, Any]) -> None:
    """Raise `InputError` for an engine argument that `TransformersClient` does not take."""
    if unknown := sorted(set(args) - set(_ARGUMENTS)):
        raise InputError(
            f"engine_args has {', '.join(unknown)}, and engine='transformers' takes only "
            f"{', '.join(_ARGUMENTS)}"
        )


class TransformersClient:
    """
    A model in this process, and the thread that computes with it.

    Has the methods of `EngineClient` that scoring needs.

    Args:
        args: `device` ("cuda", "mps" or "cpu"; by default the first of these that torch finds),
            `dtype` (the name of a torch dtype; by default the checkpoint's), `revision` and
            `hf_token` for the hub, and `max_num_batched_tokens` (the most tokens that go through
            the model together; by default 4,096 on a CPU and 16,384 on a GPU).

    Attributes:
        reason: Why it was closed; None while it can be used.
    """

    def __init__(self, args: Mapping[str, Any]) -> None:
        self.reason: str | None = None
        self._args = args
        self._network: _Network | None = None
        self._running: set[threading.Event] = set()
        # One thread, for torch uses all cores by itself.
        self._worker = ThreadPoolExecutor(1, "qwen3-reranker-torch")

    async def load(self, checkpoint: Checkpoint, prompts: PromptBuilder) -> str:
        """
        Load the weights; return what people are told of this engine.

        Raises:
            MissingDependencyError: transformers or torch is not installed.
            EngineError: The weights cannot be loaded.
        """

        def load() -> _Network:
            try:
                return _Network(checkpoint, prompts, self._args)
            except (OSError, ValueError) as error:
                raise EngineError(f"{checkpoint.model} cannot be loaded: {error}") from error

        self._network = await self._work(load)
        return self._network.description

    async def encode(self, prompts: Sequence[list[int]]) -> list[list[float]]:
        """
        Return the raw logits of each prompt: one number, or one per label.

        A call that is cancelled stops after the batch that is being computed.

        Raises:
            EngineError: torch failed, for instance because memory ran out, or the engine was
                closed.
        """
        network = self._network
        if network is None:
            raise EngineError(self.reason or "the model is not loaded")
        stopped = threading.Event()
        self._running.add(stopped)
        try:
            return await self._work(lambda: network.logits(prompts, stopped))
        finally:
            stopped.set()
            self._running.discard(stopped)

    async def aclose(self) -> None:
        """Drop the weights. Calls that wait raise `EngineError`."""
        self.reason = self.reason or "the engine was closed"
        for stopped in self._running:
            stopped.set()
        self._worker.shutdown(wait=False, cancel_futures=True)
        self._network = None

    async def _work(self, work: Callable[[], T]) -> T:
        if self.reason is not None:
            raise EngineError(self.reason)
        try:
            return await asyncio.wrap_future(self._worker.submit(work))
        except (asyncio.CancelledError, _StoppedError):
            if self.reason is not None:
                raise EngineError(self.reason) from None
            raise
        except RuntimeError as error:  # what torch raises, also where memory runs out
            raise EngineError(f"torch failed: {error}") from error


class _StoppedError(Exception):
    """Nobody waits for the result any more."""


class _Network:
    """
    The weights on a device. Used on the engine's thread alone.

    Attributes:
        description: What people are told of it.
    """

    def __init__(
        self, checkpoint: Checkpoint, prompts: PromptBuilder, args: Mapping[str, Any]
    ) -> None:
        try:
            import torch
            import transformers
        except ImportError as error:
            raise MissingDependencyError(
                "engine='transformers' needs transformers and torch: "
                "pip install 'qwen3-reranker[transformers]'"
            ) from error
        self._device = torch.device(args.get("device") or _best_device())
        cpu = self._device.type == "cpu"
        self._budget = args.get("max_num_batched_tokens") or (_CPU_BATCH if cpu else _GPU_BATCH)
        causal = checkpoint.kind == "causal"
        kind: Any = (
            transformers.AutoModelForCausalLM
            if causal
            else transformers.AutoModelForSequenceClassification
        )
        model = kind.from_pretrained(
            checkpoint.model,
            dtype=args.get("dtype", "auto"),
            revision=args.get("revision"),
            token=reveal_token(args).get("hf_token"),
            attn_implementation="sdpa",
        )
        output = model.lm_head if causal else model.score
        # What is read of the output matrix, in float32: yes - no, or a row per label.
        rows = output.weight.detach().float()
        if causal:
            rows = rows[[prompts.yes]] - rows[[prompts.no]]
        self._heads = rows.to(self._device)
        # Without the output matrix: of its 151,669 rows two are read.
        self._model = model.model.to(self._device).eval()
        dtype = str(self._model.dtype).removeprefix("torch.")
        self.description = f"transformers {transformers.__version__} on {self._device}, {dtype}"

    def logits(self, prompts: Sequence[list[int]], stopped: threading.Event) -> list[list[float]]:
        """Return the raw logits of each prompt, in the order given."""
        import torch

        found: list[list[float]] = [[] for _ in prompts]
        with torch.inference_mode():
            shared = _shared_length(prompts)
            head = self._head(prompts[0][:shared])
            for batch in _batches([len(ids) for ids in prompts], self._budget):
                if stopped.is_set():
                    raise _StoppedError
                rows = self._batch(head, shared, [prompts[index][shared:] for index in batch])
                for index, row in zip(batch, rows, strict=True):
                    found[index] = row
        return found

    def _head(self, ids: Sequence[int]) -> _Recorded:
        """Return the keys and values of what all prompts begin with."""
        import torch

        recorded = _Recorded()
        if ids:
            tokens = torch.tensor([ids], device=self._device)
            self._forward(tokens, 0, recorded)
        return recorded

    def _batch(
        self, head: _Recorded, shared: int, tails: Sequence[Sequence[int]]
    ) -> list[list[float]]:
        import torch

        longest = max(map(len, tails))
        # Padded on the right: what comes behind a position is never seen from there.
        padded = [[*ids, *[0] * (longest - len(ids))] for ids in tails]
        hidden = self._forward(
            torch.tensor(padded, device=self._device), shared, _Prefixed(head.layers)
        )
        last = torch.tensor([len(ids) - 1 for ids in tails], device=self._device)
        states = hidden[torch.arange(len(tails), device=self._device), last].float()
        rows: list[list[float]] = (states @ self._heads.T).tolist()
        return rows

    def _forward(self, tokens: torch.Tensor, start: int, cache: _Cache) -> torch.Tensor:
        """Return the last layer's hidden states of tokens that stand at `start` and behind."""
        import torch

        length = tokens.shape[1]
        places = torch.arange(start, start + length, device=self._device)
        seen = torch.arange(start + length, device=self._device)[None, :] <= places[:, None]
        hidden: torch.Tensor = self._model(
            input_ids=tokens,
            attention_mask={"full_attention": seen[None, None]},
            position_ids=places[None],
            past_key_values=cache,
            use_cache=False,
        ).last_hidden_state
        return hidden


class _Recorded:
    """A cache that keeps each layer's keys and values."""

    def __init__(self) -> None:
        self.layers: list[tuple[torch.Tensor, torch.Tensor]] = []

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keep what a layer computed. The layers come in order."""
        assert layer == len(self.layers)
        self.layers.append((keys, values))
        return keys, values


class _Prefixed:
    """A cache that puts recorded keys and values before those of every row, and keeps nothing."""

    def __init__(self, layers: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
        self._layers = layers

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a layer's keys and values with the recorded ones before them."""
        import torch

        if not self._layers:
            return keys, values
        first_keys, first_values = (
            part.expand(len(keys), -1, -1, -1) for part in self._layers[layer]
        )
        return torch.cat([first_keys, keys], 2), torch.cat([first_values, values], 2)


_Cache = _Recorded | _Prefixed


def _shared_length(prompts: Sequence[list[int]]) -> int:
    """Return how many tokens all prompts begin with; at least one of each prompt is left."""
    # What the first and the last in alphabetical order share is shared by all between them.
    first, last = min(prompts), max(prompts)
    pairs = zip(first[:-1], last, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), len(first) - 1)


def _batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Yield the indexes of prompts in batches of similar length, the longest first."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        # A batch is as wide as its first prompt.
        if batch and lengths[batch[0]] * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(index)
    yield batch


def _best_device() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
