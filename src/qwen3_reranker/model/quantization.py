"""
What a checkpoint's config.json says about quantized weights.

The formats are those of compressed-tensors, FP8 of transformers, ModelOpt, AWQ, GPTQ and
bitsandbytes, as vLLM 0.27 to 0.33 read them.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qwen3_reranker.errors import CheckpointError

__all__ = ["Quantization"]

_COMPRESSED_TENSORS = "compressed-tensors"
# What a pattern begins with. Anything else is a name.
_PATTERN = "re:"
# The names that the formats have for the list of modules that are not quantized.
_IGNORED = (
    "ignore",
    "exclude_modules",
    "ignored_layers",
    "modules_to_not_convert",
    "llm_int8_skip_modules",
)
_BITS = ("bits", "w_bit", "wbits", "weight_bits")


@dataclass(frozen=True, slots=True)
class Quantization:
    """
    How the weights of a checkpoint are quantized.

    Attributes:
        method: The name of the format, such as "compressed-tensors".
        bits: The number of bits per weight of a linear layer; None if it is not known.
        is_float: Whether the weights are floats, such as FP8 or NVFP4.
        targets: The classes or names of the modules that are quantized; patterns begin with "re:".
        ignored: The names of modules that are not quantized, or patterns.
    """

    method: str
    bits: int | None
    is_float: bool
    targets: tuple[str, ...]
    ignored: tuple[str, ...]

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Quantization | None:
        """
        Read a checkpoint's quantization.

        Args:
            config: The content of its config.json.

        Returns:
            The quantization; None if the weights are not quantized.

        Raises:
            CheckpointError: A value in it cannot be used. The message names its key.
        """
        section = config.get("quantization_config") or config.get("compression_config")
        if not isinstance(section, Mapping) or not section:
            return None
        method = str(section.get("quant_method") or "unknown")
        bits, is_float = _numbers(section)
        targets = [name for group in _groups(section) for name in _names(group, "targets")]
        key = next((key for key in _IGNORED if section.get(key)), _IGNORED[0])
        return cls(method, bits, is_float, tuple(targets), _names(section, key))

    @property
    def name(self) -> str:
        """The format for people to read, with the numbers if they are known."""
        if self.bits is None:
            return self.method
        return f"{self.method}, {'fp' if self.is_float else 'int'}{self.bits}"

    def covers(self, module: str) -> bool:
        """
        Return whether vLLM takes a linear layer for a quantized one.

        Args:
            module: The name of the layer, such as "score".
        """
        if any(self._matches(module, pattern) for pattern in self.ignored):
            return False
        return not self.targets or any(
            target == "Linear" or self._matches(module, target) for target in self.targets
        )

    def _matches(self, module: str, pattern: str) -> bool:
        if pattern.startswith(_PATTERN):
            return re.match(pattern.removeprefix(_PATTERN), module) is not None
        if self.method == _COMPRESSED_TENSORS:
            return module == pattern
        return pattern in module or fnmatch.fnmatchcase(module, pattern)


def _numbers(section: Mapping[str, Any]) -> tuple[int | None, bool]:
    """Return the number of bits per weight, and whether the weights are floats."""
    for group in _groups(section):
        weights = group.get("weights")
        if isinstance(weights, Mapping) and (bits := weights.get("num_bits")):
            if not _is_bits(bits):
                raise _unusable("num_bits", bits, "a number of bits")
            return bits, weights.get("type") == "float"
    kind = str(section.get("quant_algo") or section.get("quant_method")).lower()
    if match := re.search(r"(?:nv|mx)?fp(4|8)", kind):
        return int(match[1]), True
    if kind == "bitsandbytes":
        return 4 if section.get("load_in_4bit") else 8, False
    bits = next((section[key] for key in _BITS if _is_bits(section.get(key))), None)
    return bits, False


def _is_bits(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 64


def _names(holder: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """Return the names and patterns in a list."""
    names = holder.get(key) or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _unusable(key, names, "a list of names of modules")
    for name in names:
        if name.startswith(_PATTERN):
            try:
                re.compile(name.removeprefix(_PATTERN))
            except (re.error, RecursionError, OverflowError) as error:
                raise _unusable(key, name, f"a regular expression ({error})") from None
    return tuple(names)


def _groups(section: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    groups = section.get("config_groups")
    values = groups.values() if isinstance(groups, Mapping) else ()
    return [group for group in values if isinstance(group, Mapping)]


def _unusable(key: str, value: object, wanted: str) -> CheckpointError:
    return CheckpointError(f"its quantization has {key}={value!r:.80}, which is not {wanted}")
