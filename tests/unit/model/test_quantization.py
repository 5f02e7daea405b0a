"""What a config.json says about quantized weights, in the formats that vLLM reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qwen3_reranker import CheckpointError, Reranker
from qwen3_reranker.model.quantization import Quantization

from support.checkpoints import copy_demo


def group(bits: Any, kind: str, *targets: str, **more: Any) -> dict[str, Any]:
    weights = {"num_bits": bits, "type": kind, "strategy": "channel", **more}
    return {"config_groups": {"group_0": {"targets": list(targets), "weights": weights}}}


CT = {"quant_method": "compressed-tensors"}
# As llm-compressor, transformers, ModelOpt, AutoAWQ, GPTQModel and bitsandbytes write them.
CASES: list[tuple[dict[str, Any], str, int | None, bool, bool]] = [
    # The config, its name, bits, and whether it covers score and lm_head.
    (CT | group(8, "float", "Linear") | {"ignore": ["lm_head"]}, "fp8", 8, True, False),
    (CT | group(8, "int", "Linear") | {"ignore": ["score"]}, "int8", 8, False, True),
    (CT | group(8, "int", "Linear") | {"ignore": ["re:.*score$"]}, "int8", 8, False, True),
    (CT | group(4, "float", "Linear") | {"ignore": []}, "fp4", 4, True, True),
    (CT | group(4, "int", "re:.*_proj$"), "int4", 4, False, False),
    (CT | group(8, "int", "lm_head"), "int8", 8, False, True),
    # compressed-tensors compares whole names.
    (CT | group(8, "int", "Linear") | {"ignore": ["model.score"]}, "int8", 8, True, True),
    ({"quant_method": "fp8", "activation_scheme": "dynamic"}, "fp8", 8, True, True),
    ({"quant_method": "fp8", "ignored_layers": ["lm_head"]}, "fp8", 8, True, False),
    ({"quant_method": "fp8", "modules_to_not_convert": ["score"]}, "fp8", 8, False, True),
    (
        {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"]},
        *("fp4", 4, True, False),
    ),
    (
        {"quant_method": "modelopt", "quant_algo": "NVFP4", "exclude_modules": ["sc*"]},
        *("fp4", 4, False, True),
    ),
    ({"quant_method": "awq", "bits": 4, "modules_to_not_convert": None}, "int4", 4, True, True),
    ({"quant_method": "gptq", "bits": 8}, "int8", 8, True, True),
    (
        {"quant_method": "bitsandbytes", "load_in_4bit": True, "llm_int8_skip_modules": ["score"]},
        *("int4", 4, False, True),
    ),
    ({"quant_method": "quark"}, "quark", None, True, True),
]


@pytest.mark.parametrize(("config", "name", "bits", "score", "lm_head"), CASES)
@pytest.mark.parametrize("key", ["quantization_config", "compression_config"])
def test_formats(
    key: str, config: dict[str, Any], name: str, bits: int | None, *, score: bool, lm_head: bool
) -> None:
    found = Quantization.of({key: config})
    assert found is not None
    assert found.name.split(", ")[-1] == name and found.name.startswith(config["quant_method"])
    assert found.bits == bits
    assert (found.covers("score"), found.covers("lm_head")) == (score, lm_head)


@pytest.mark.parametrize("nothing", [{}, None, [], "fp8"])
def test_nothing_is_quantized(nothing: Any) -> None:
    assert Quantization.of({}) is None
    assert Quantization.of({"quantization_config": nothing}) is None


@pytest.mark.parametrize("broken", [{"config_groups": ["x"]}, {"config_groups": {"g": None}}])
def test_a_config_that_is_none_of_these(broken: dict[str, Any]) -> None:
    found = Quantization.of({"quantization_config": broken})
    assert found is not None and found.name == "unknown" and found.covers("score")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"ignore": 5}, r"ignore=5, which is not a list of names"),
        ({"ignore": "lm_head"}, r"ignore='lm_head', which is not a list of names"),
        ({"exclude_modules": {"lm_head": 1}}, r"exclude_modules=\{'lm_head': 1\}, which is not"),
        ({"ignore": ["lm_head", None]}, r"ignore=\['lm_head', None\], which is not a list"),
        ({"ignore": ["re:*lm_head"]}, r"ignore='re:\*lm_head', which is not a regular expression"),
        (group(8, "int") | {"config_groups": {"g": {"targets": 5}}}, r"targets=5, which is not"),
        (group("eight", "int", "Linear"), r"num_bits='eight', which is not a number of bits"),
        (group(10**400, "int", "Linear"), r"num_bits=10+, which is not a number of bits"),
    ],
)
def test_a_damaged_value_is_named(tmp_path: Path, section: dict[str, Any], message: str) -> None:
    folder = copy_demo(tmp_path / "model", quantization_config=CT | section)
    with pytest.raises(CheckpointError, match=rf"model: its quantization has {message}"):
        Reranker(str(folder)).prompt("query", "document")
