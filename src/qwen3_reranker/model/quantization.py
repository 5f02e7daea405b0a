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

__all__ = ["Quantization"]

_COMPRESSED_TENSORS = "compressed-tensors"
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
        """
        found = config.get("quantization_config") or config.get("compression_config")
        if not isinstance(found, Mapping) or not found:
            return None
        method = str(found.get("quant_method") or "unknown")
        bits, is_float = _numbers(found)
        ignored = next((found[key] for key in _IGNORED if found.get(key)), ())
        return cls(method, bits, is_float, _targets(found), tuple(map(str, ignored)))

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
        if pattern.startswith("re:"):
            return re.match(pattern.removeprefix("re:"), module) is not None
        if self.method == _COMPRESSED_TENSORS:
            return module == pattern
        return pattern in module or fnmatch.fnmatchcase(module, pattern)


def _numbers(found: Mapping[str, Any]) -> tuple[int | None, bool]:
    """Return the number of bits per weight, and whether the weights are floats."""
    for group in _groups(found):
        weights = group.get("weights")
        if isinstance(weights, Mapping) and weights.get("num_bits"):
            return int(weights["num_bits"]), weights.get("type") == "float"
    kind = str(found.get("quant_algo") or found.get("quant_method")).lower()
    if match := re.search(r"(?:nv|mx)?fp(4|8)", kind):
        return int(match[1]), True
    if kind == "bitsandbytes":
        return 4 if found.get("load_in_4bit") else 8, False
    bits = next((found[key] for key in _BITS if isinstance(found.get(key), int)), None)
    return bits, False


def _targets(found: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(target) for group in _groups(found) for target in group.get("targets") or ())


def _groups(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    groups = found.get("config_groups")
    values = groups.values() if isinstance(groups, Mapping) else ()
    return [group for group in values if isinstance(group, Mapping)]
