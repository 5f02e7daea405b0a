"""
An engine that runs transformers and torch in this process, for systems without vLLM.

The prompts of a query's documents have the same beginning. The model reads it once, and its keys
and values are used for every document. The rest is read in batches of prompts of similar length,
and only the last position of each prompt is turned into logits.

With a dictionary of attention masks and explicit positions, `Qwen3Model.forward` calls no method of
its cache except `update` (read in transformers 5.5.3 and 5.24.0).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from qwen3_reranker.errors import (
    EngineError,
    InputError,
    MissingDependencyError,
    RerankerError,
)
from qwen3_reranker.model.checkpoint import Checkpoint
from qwen3_reranker.model.prompt import PromptBuilder

if TYPE_CHECKING:
    import torch

__all__ = ["TransformersClient", "make_batches", "shared_length", "validate_arguments"]

T = TypeVar("T")

# They have the names of vLLM's arguments, so that settings need not change with the engine.
_ARGUMENTS = ("device", "dtype", "hf_token", "max_num_batched_tokens", "revision")
# The maximum number of tokens in a batch, including shared beginnings and padding.
_CPU_BATCH = 4096
_GPU_BATCH = 16_384


def validate_arguments(args: Mapping[str, Any]) -> None:
    """
    Check engine arguments.

    Raises:
        InputError: `TransformersClient` does not have an argument of this name.
    """
    if unknown := sorted(set(args) - set(_ARGUMENTS)):
        raise InputError(
            f"engine_args has {', '.join(unknown)}, but engine='transformers' takes only "
            f"{', '.join(_ARGUMENTS)}"
        )


class TransformersClient:
    """
    A model in this process, and the thread that runs it.

    It has the methods of `EngineClient` that scoring needs.

    Args:
        args: `device` ("cuda", "mps" or "cpu"; by default the first of these that torch finds),
            `dtype` (the name of a torch dtype; by default the checkpoint's), `revision` and
            `hf_token` for the hub, and `max_num_batched_tokens` (the maximum number of tokens in a
            batch; by default 4,096 on a CPU and 16,384 on a GPU).

    Attributes:
        reason: Why the engine was closed. None while it can be used.
    """

    def __init__(self, args: Mapping[str, Any]) -> None:
        self.reason: str | None = None
        self._args = args
        self._network: _Network | None = None
        self._running: set[threading.Event] = set()
        # A single thread, since torch uses all cores by itself.
        self._worker = ThreadPoolExecutor(1, "qwen3-reranker-torch")

    async def load(self, checkpoint: Checkpoint, prompts: PromptBuilder) -> str:
        """
        Load the weights.

        Args:
            checkpoint: The checkpoint to load.
            prompts: The builder of its prompts, which knows the ids of "yes" and "no".

        Returns:
            The engine's name, device and dtype, for people to read.

        Raises:
            MissingDependencyError: transformers, torch or a package that transformers needs for
                quantized weights is not installed.
            EngineError: The weights cannot be loaded.
        """

        def load() -> _Network:
            try:
                return _Network(checkpoint, prompts, self._args)
            except RerankerError:
                raise
            except Exception as error:  # noqa: BLE001  # torch and safetensors raise many types
                # Without a package that it needs for quantized weights, transformers raises
                # ImportError.
                missing = isinstance(error, ImportError)
                kind = MissingDependencyError if missing else EngineError
                words = f"{type(error).__name__}: {error}"
                # The library's frames hold the token.
                cause = None if "hf_token" in self._args else error
                raise kind(f"{checkpoint.model} cannot be loaded: {words}") from cause

        self._network = await self._work(load)
        return self._network.description

    async def encode(self, prompts: Sequence[list[int]]) -> list[list[float]]:
        """
        Return the raw logits of each prompt, in order: one number, or one per label.

        A canceled call ends after the current batch.

        Args:
            prompts: The token ids of each prompt.

        Raises:
            EngineError: The model failed, for example because memory ran out, or the engine was
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
        """Drop the weights. Pending calls raise `EngineError`."""
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
        except RerankerError:
            raise
        except Exception as error:
            raise EngineError(f"the model failed: {type(error).__name__}: {error}") from error


class _StoppedError(Exception):
    """The caller no longer waits for the result."""


class _Network:
    """
    The weights on a device. Used only on the engine's thread.

    Attributes:
        description: The engine's name, device and dtype, for people to read.
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
        token = args.get("hf_token")
        model = kind.from_pretrained(
            checkpoint.model,
            dtype=args.get("dtype", "auto"),
            revision=args.get("revision"),
            token=None if token is None else token.reveal(),
            attn_implementation="sdpa",
        )
        output = model.lm_head if causal else model.score
        # The rows that are needed of the output matrix, in float32: yes - no, or one per label.
        rows = output.weight.detach().float()
        if causal:
            rows = rows[[prompts.yes]] - rows[[prompts.no]]
        self._heads = rows.to(self._device)
        # Without the output matrix, of whose 151,669 rows only two are needed.
        self._model = model.model.to(self._device).eval()
        dtype = str(self._model.dtype).removeprefix("torch.")
        self.description = f"transformers {transformers.__version__} on {self._device}, {dtype}"

    def logits(self, prompts: Sequence[list[int]], stopped: threading.Event) -> list[list[float]]:
        """
        Return the raw logits of each prompt, in order.

        Args:
            prompts: The token ids of each prompt; at least one prompt.
            stopped: Set it to end the computation after the current batch.
        """
        import torch

        logits: list[list[float]] = [[] for _ in prompts]
        with torch.inference_mode():
            shared = shared_length(prompts)
            head = self._head(prompts[0][:shared])
            for batch in make_batches([len(ids) for ids in prompts], self._budget):
                if stopped.is_set():
                    raise _StoppedError
                rows = self._batch(head, shared, [prompts[index][shared:] for index in batch])
                for index, row in zip(batch, rows, strict=True):
                    logits[index] = row
        return logits

    def _head(self, ids: Sequence[int]) -> _Recorded:
        """Return the keys and values of the beginning that all prompts share."""
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
        # Padding on the right does no harm, because no position attends to those after it.
        padded = [[*ids, *[0] * (longest - len(ids))] for ids in tails]
        hidden = self._forward(
            torch.tensor(padded, device=self._device), shared, _Prefixed(head.layers)
        )
        last = torch.tensor([len(ids) - 1 for ids in tails], device=self._device)
        states = hidden[torch.arange(len(tails), device=self._device), last].float()
        rows: list[list[float]] = (states @ self._heads.T).tolist()
        return rows

    def _forward(self, tokens: torch.Tensor, start: int, cache: _Cache) -> torch.Tensor:
        """Return the last layer's hidden states of tokens whose positions begin at `start`."""
        import torch

        length = tokens.shape[1]
        positions = torch.arange(start, start + length, device=self._device)
        mask = torch.arange(start + length, device=self._device)[None, :] <= positions[:, None]
        hidden: torch.Tensor = self._model(
            input_ids=tokens,
            attention_mask={"full_attention": mask[None, None]},
            position_ids=positions[None],
            past_key_values=cache,
            use_cache=False,
        ).last_hidden_state
        return hidden


class _Recorded:
    """A cache that records the keys and values of each layer."""

    def __init__(self) -> None:
        self.layers: list[tuple[torch.Tensor, torch.Tensor]] = []

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Record the keys and values of a layer. The layers are called in order."""
        assert layer == len(self.layers)
        self.layers.append((keys, values))
        return keys, values


class _Prefixed:
    """A cache that puts recorded keys and values before those of every row, and records nothing."""

    def __init__(self, layers: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
        self._layers = layers

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the keys and values of a layer with the recorded ones before them."""
        import torch

        if not self._layers:
            return keys, values
        first_keys, first_values = (
            part.expand(len(keys), -1, -1, -1) for part in self._layers[layer]
        )
        return torch.cat([first_keys, keys], 2), torch.cat([first_values, values], 2)


_Cache = _Recorded | _Prefixed


def shared_length(prompts: Sequence[list[int]]) -> int:
    """Return how many tokens all prompts share at their beginning, leaving at least one of each."""
    # All prompts share what the first and the last in lexicographic order share.
    first, last = min(prompts), max(prompts)
    pairs = zip(first[:-1], last, strict=False)
    return next((index for index, (a, b) in enumerate(pairs) if a != b), len(first) - 1)


def make_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Yield batches of the indexes of prompts of similar length, the longest first."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        # All prompts of a batch are padded to the length of the first one.
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
