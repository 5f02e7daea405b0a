"""
Serve the demo model with llama.cpp: a program for the interpreter of `.venv-llama-cpp`.

    python llama_cpp_process.py MODEL_FOLDER GGUF_FILE [PORT CONTEXT_LENGTH]

Write the GGUF file, and serve it if there is a port. The file holds what llama.cpp's own converter
writes for a Qwen3-Reranker: the weights in fp32, the rows of "yes" and "no" as the classifier's
head, and the prompt as a template named "rerank".
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import gguf  # type: ignore[import-not-found]
import numpy as np
import xllamacpp  # type: ignore[import-not-found]

TEMPLATE = (
    "<|im_start|>system\n"
    "Judge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
    "<|im_start|>user\n"
    "<Instruct>: Given a web search query, retrieve relevant passages that answer the query\n"
    "<Query>: {query}\n"
    "<Document>: {document}<|im_end|>\n"
    "<|im_start|>assistant\n"
    "<think>\n\n</think>\n\n"
)


def read_bfloat16(path: Path) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """Return the tensors of a safetensors file that holds bfloat16 alone, as fp32."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        assert entry["dtype"] == "BF16", name
        first, end = (start + offset for offset in entry["data_offsets"])
        halves = np.frombuffer(content[first:end], dtype="<u2")
        bits = halves.astype(np.uint32) << np.uint32(16)
        tensors[name] = bits.view(np.float32).reshape(entry["shape"])
    return tensors


def write_gguf(model: Path, path: Path) -> None:
    """Write the reranker in the folder `model` as a GGUF file."""
    config = json.loads((model / "config.json").read_text("utf-8"))
    tokenizer = json.loads((model / "tokenizer.json").read_text("utf-8"))
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_name("Qwen3-Reranker-demo")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_pooling_type(gguf.PoolingType.RANK)
    writer.add_classifier_output_labels(["yes", "no"])
    ids = add_vocabulary(writer, tokenizer, config["vocab_size"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_pad_token_id(ids["<|endoftext|>"])
    writer.add_add_bos_token(value=False)
    writer.add_chat_template([{"name": "rerank", "template": TEMPLATE}])

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, config["num_hidden_layers"])
    weights = read_bfloat16(model / "model.safetensors")
    for name, tensor in weights.items():
        written = names.get_name(name, try_suffixes=(".weight",))
        assert written is not None, name
        writer.add_tensor(written, tensor)
    head = weights["model.embed_tokens.weight"][[ids["yes"], ids["no"]]]
    writer.add_tensor("cls.output.weight", head)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_vocabulary(writer: Any, tokenizer: dict[str, Any], size: int) -> dict[str, int]:
    """Write the tokenizer as llama.cpp's "qwen2"; return the id of each token."""
    added = {token["content"]: token for token in tokenizer["added_tokens"]}
    ids: dict[str, int] = tokenizer["model"]["vocab"] | {
        content: token["id"] for content, token in added.items()
    }
    tokens = [f"[PAD{place}]" for place in range(size)]
    types = [gguf.TokenType.UNUSED] * size
    for content, place in ids.items():
        tokens[place] = content
        types[place] = gguf.TokenType.NORMAL
    for token in added.values():
        kind = gguf.TokenType.CONTROL if token["special"] else gguf.TokenType.USER_DEFINED
        types[token["id"]] = kind
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    return ids


def serve(path: Path, port: int, context_length: int) -> None:
    """Serve the GGUF file on 127.0.0.1, as `llama-server --rerank` does, until killed."""
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.embedding = True
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_RANK
    # The defaults compute with 16 bits, and so differ by up to 2.7e-3 from the recipe.
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.n_ctx = params.n_batch = params.n_ubatch = context_length
    params.n_parallel = 1
    # Its threads wait for each other in loops: a second one that has no core makes it slow.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(params)  # noqa: F841  # it serves while it lives
    signal.pause()


if __name__ == "__main__":
    folder, file, *serving = sys.argv[1:]
    write_gguf(Path(folder), Path(file))
    if serving:
        serve(Path(file), *map(int, serving))
