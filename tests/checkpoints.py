"""Small real checkpoints, made from the demo model or from nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

from qwen3_reranker.checkpoint import DEMO_MODEL
from qwen3_reranker.prompt import PromptBuilder


def copy_demo(folder: Path, **config: object) -> Path:
    """Copy the demo model, with some settings of its config.json replaced."""
    shutil.copytree(DEMO_MODEL, folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return folder


def convert_demo(folder: Path, labels: int) -> Path:
    """Convert the demo model to a classifier: one label is yes - no, two are [no, yes]."""
    names = {str(i): name for i, name in enumerate(["no", "yes"] if labels == 2 else ["LABEL_0"])}
    copy_demo(
        folder,
        architectures=["Qwen3ForSequenceClassification"],
        id2label=names,
        label2id={name: int(i) for i, name in names.items()},
        pad_token_id=None,
    )
    prompts = PromptBuilder((folder / "tokenizer.json").read_text("utf-8"))
    weights = load_file(folder / "model.safetensors")
    rows = weights["model.embed_tokens.weight"]
    no, yes = rows[prompts.no], rows[prompts.yes]
    head = (yes - no)[None] if labels == 1 else rows[[prompts.no, prompts.yes]].clone()
    weights["score.weight"] = head
    weights.pop("lm_head.weight", None)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder
