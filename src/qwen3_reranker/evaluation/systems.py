"""What an evaluation compares: rerankers with their instruction, depth and length limit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import product
from typing import Any, Self
from urllib.parse import urlsplit

from qwen3_reranker.errors import InputError
from qwen3_reranker.model.template import DEFAULT_INSTRUCTION
from qwen3_reranker.ranking import validate_instruction
from qwen3_reranker.redaction import conceal
from qwen3_reranker.reranker import DEFAULT_MODEL, Reranker

__all__ = ["RETRIEVER", "ScoredBy", "System", "instruction_names", "name_systems"]

ScoredBy = tuple[tuple[Any, ...], str | None]
"""What a reranker is built from, and the instruction."""

RETRIEVER = "retriever"
"""The name of the retriever's own order, beside which systems are put."""


@dataclass(frozen=True, kw_only=True)
class System:
    """
    A way to rerank: a model or a server with its settings.

    Args:
        model: A hub name, a folder, or "demo"; with `base_url` the model's name on the server.
        base_url: The URL of a server, or several of the same model. None uses an embedded engine.
        instruction: What makes a document a good match. None uses the default instruction.
        max_length: The maximum number of tokens in a prompt. None uses the default of `Reranker`.
        depth: How many of the retriever's documents are reranked. The others follow in the
            retriever's order. None reranks all.
        name: What reports call the system. None makes a name of what tells the systems of a report
            apart.
        reranker: A reranker to use, which is not closed, in place of `model`, `base_url`,
            `max_length` and `options`. Its scores are cached only by its own `cache=`.
        options: Further arguments of `Reranker`, except `cache` and `on_error`.

    Raises:
        InputError: An argument cannot be used, or not together with another one.
    """

    model: str | None = None
    base_url: str | Sequence[str] | None = field(default=None, repr=False)
    instruction: str | None = None
    max_length: int | None = None
    depth: int | None = None
    name: str | None = None
    reranker: Reranker | None = None
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        validate_instruction(self.instruction)
        depth = self.depth
        if depth is not None and (type(depth) is not int or depth < 1):
            raise InputError(f"depth={depth!r}: give a whole number of at least 1, or None for all")
        if self.name == RETRIEVER:
            raise InputError(f"name={self.name!r} is the name of the retriever's order")
        if own := self.options.keys() & {argument.name for argument in fields(self)}:
            raise InputError(f"options has {_listed(own)}: give it to System itself")
        if unused := self.options.keys() & {"cache", "on_error"}:
            raise InputError(
                f"options has {_listed(unused)}, which an evaluation sets itself: leave it out"
            )
        settings = (self.model, self.base_url, self.max_length, self.options or None)
        if self.reranker is not None and any(value is not None for value in settings):
            raise InputError("reranker= is given, and settings of another one too: it has its own")
        # So that no traceback shows a key.
        object.__setattr__(self, "options", conceal(self.options))

    @classmethod
    def combinations(
        cls,
        *,
        models: Iterable[str | None] = (None,),
        base_urls: Iterable[str | Sequence[str] | None] = (None,),
        instructions: Iterable[str | None] = (None,),
        max_lengths: Iterable[int | None] = (None,),
        depths: Iterable[int | None] = (None,),
        **options: Any,
    ) -> list[Self]:
        """
        Return a system for every combination of the settings.

        Args:
            models: The models, see `System`.
            base_urls: The servers.
            instructions: The instructions; None is the default one.
            max_lengths: The limits of a prompt's tokens.
            depths: How many documents are reranked.
            **options: Further arguments of `Reranker`, for all systems, see `System`.
        """
        chosen = product(models, base_urls, instructions, max_lengths, depths)
        return [
            cls(
                model=model,
                base_url=base_url,
                instruction=instruction,
                max_length=max_length,
                depth=depth,
                options=options,
            )
            for model, base_url, instruction, max_length, depth in chosen
        ]

    @property
    def scored_by(self) -> ScoredBy:
        """What the scores depend on: systems that are equal in this share scores."""
        return self.built_from, self.used_instruction

    @property
    def built_from(self) -> tuple[Any, ...]:
        """What the reranker is built from: systems that are equal in this share one."""
        if self.reranker is not None:
            return (id(self.reranker),)
        return (self.model_name, tuple(self._given_urls), self.max_length, _hashable(self.options))

    @property
    def used_instruction(self) -> str | None:
        """The instruction: the system's own, or that of its reranker. None is the default one."""
        used = self.instruction
        if used is None and self.reranker is not None:
            used = self.reranker.instruction
        return None if used == DEFAULT_INSTRUCTION else used

    @property
    def used_max_length(self) -> int | None:
        """The limit of a prompt's tokens: the system's own, or that of its reranker."""
        return self.max_length if self.reranker is None else self.reranker.max_length

    @property
    def urls(self) -> list[str]:
        """The URLs of the servers, without user names, passwords and queries."""
        return [_public(url) for url in self._given_urls]

    @property
    def model_name(self) -> str | None:
        """The model's name, as far as it is known before a server is asked."""
        if self.reranker is not None:  # it has the name of its server as long as it has no other
            return None if self.reranker.model in self.urls else self.reranker.model
        return self.model or (None if self.base_url else DEFAULT_MODEL)

    @property
    def _given_urls(self) -> list[str]:
        if self.reranker is not None:
            return list(self.reranker.stats().endpoints)
        return [self.base_url] if isinstance(self.base_url, str) else list(self.base_url or ())


def name_systems(systems: System | Reranker | Iterable[System | Reranker]) -> list[System]:
    """
    Return the systems, each with a name of its own.

    A name is made of the model or server, and of those settings in which the systems differ.

    Args:
        systems: The systems. A `Reranker` stands for itself, at full depth.

    Raises:
        InputError: There are none, one is neither, two have the same name or the same settings.
    """
    given = [systems] if isinstance(systems, (System, Reranker)) else list(systems)
    if not given:
        raise InputError("systems is empty: give at least one, such as System(model='demo')")
    found = []
    for system in given:
        if not isinstance(system, (System, Reranker)):
            raise InputError(f"systems has {system!r}: give a System or a Reranker")
        found.append(System(reranker=system) if isinstance(system, Reranker) else system)
    seen = set()
    for system in found:
        key = (system.scored_by, system.depth)
        if key in seen:
            raise InputError(f"systems has {_label(system, full=True)} twice: leave one out")
        seen.add(key)
    names = _names(found)
    if len(set(names)) < len(names) or RETRIEVER in names:
        doubled = next(name for name in names if names.count(name) > 1 or name == RETRIEVER)
        raise InputError(f"two systems are called {doubled!r}: give name= to tell them apart")
    return [replace(system, name=name) for system, name in zip(found, names, strict=True)]


def instruction_names(instructions: Iterable[str | None]) -> dict[str | None, str]:
    """Return what reports call each of the instructions, which may be too long for a table."""
    texts = list(dict.fromkeys(instructions))
    given = [text for text in texts if text is not None]
    numbered = {text: f"instruction {number}" for number, text in enumerate(given, 1)}
    return {text: "default instruction" if text is None else numbered[text] for text in texts}


def _names(systems: Sequence[System]) -> list[str]:
    labels = [_label(system, full=False) for system in systems]
    # A short label is enough, unless two different models or servers have the same.
    if len(set(labels)) < len({_label(system, full=True) for system in systems}):
        labels = [_label(system, full=True) for system in systems]
    instructions = instruction_names(system.used_instruction for system in systems)
    names = []
    for system, label in zip(systems, labels, strict=True):
        parts = [label]
        if _differ(system.used_max_length for system in systems):
            parts.append(f"max_length {system.used_max_length or 'default'}")
        if len(instructions) > 1:
            parts.append(instructions[system.used_instruction])
        if _differ(system.depth for system in systems):
            parts.append(f"depth {system.depth or 'all'}")
        names.append(system.name or ", ".join(parts))
    return names


def _label(system: System, *, full: bool) -> str:
    """Return the model and the servers, or for short the ends of their names and addresses."""
    model, urls = system.model_name, system.urls
    if not full:
        urls = [urlsplit(url).netloc or url for url in urls]
        model = model and model.rstrip("/").rpartition("/")[2]
    return " at ".join(filter(None, [model, ", ".join(urls)]))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"{name}=" for name in sorted(names))


def _differ(values: Iterable[Any]) -> bool:
    return len(set(values)) > 1


def _hashable(value: Any) -> Any:
    """Return what is equal for equal options, secrets among them, and can be a key."""
    if isinstance(value, Mapping):
        return frozenset((name, _hashable(item)) for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(map(_hashable, value))
    try:
        hash(value)
    except TypeError:
        return id(value)
    return value


def _public(url: str) -> str:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host, query="", fragment="").geturl()
