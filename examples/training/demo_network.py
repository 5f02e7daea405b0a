"""
The demo model as a plain PyTorch module: Qwen3's arithmetic, arranged for fast reranking on CPUs.

A row has the head of a question (template, instruction, query) and several passages. The head is
computed once. Each passage attends to the head and to itself, and its positions continue those of
the head. The last layer is computed for the last position only, and its only output is the logit of
yes minus that of no.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Shape:
    """The dimensions of the network, named as in a Qwen3 config.json."""

    vocab_size: int = 12_288
    hidden_size: int = 256
    intermediate_size: int = 512
    num_hidden_layers: int = 3
    num_attention_heads: int = 4
    num_key_value_heads: int = 4
    head_dim: int = 64
    rope_theta: float = 1e10


class Layer(nn.Module):
    """One decoder layer, with the parameter names of a Qwen3 checkpoint."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        hidden, inner = shape.hidden_size, shape.intermediate_size
        queries = shape.num_attention_heads * shape.head_dim
        keys = shape.num_key_value_heads * shape.head_dim
        self.shape = shape
        self.input_layernorm = nn.RMSNorm(hidden, eps=1e-6)
        self.self_attn = nn.ModuleDict(
            {
                "q_proj": nn.Linear(hidden, queries, bias=False),
                "k_proj": nn.Linear(hidden, keys, bias=False),
                "v_proj": nn.Linear(hidden, keys, bias=False),
                "o_proj": nn.Linear(queries, hidden, bias=False),
                "q_norm": nn.RMSNorm(shape.head_dim, eps=1e-6),
                "k_norm": nn.RMSNorm(shape.head_dim, eps=1e-6),
            }
        )
        self.post_attention_layernorm = nn.RMSNorm(hidden, eps=1e-6)
        self.mlp = nn.ModuleDict(
            {
                "gate_proj": nn.Linear(hidden, inner, bias=False),
                "up_proj": nn.Linear(hidden, inner, bias=False),
                "down_proj": nn.Linear(inner, hidden, bias=False),
            }
        )

    def project(self, x: Tensor, name: str, rope: tuple[Tensor, Tensor] | None) -> Tensor:
        """Return the queries, keys or values of x as [rows, heads, length, head_dim]."""
        rows, length, _ = x.shape
        y = self.self_attn[f"{name}_proj"](x).view(rows, length, -1, self.shape.head_dim)
        if rope is None:
            return y.transpose(1, 2)
        y = self.self_attn[f"{name}_norm"](y).transpose(1, 2)
        half = self.shape.head_dim // 2
        cos, sin = rope[0].to(y.dtype), rope[1].to(y.dtype)
        return y * cos + torch.cat((-y[..., half:], y[..., :half]), -1) * sin

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Return the attention output, projected to the hidden size."""
        times = q.shape[1] // k.shape[1]
        if times > 1:
            k, v = k.repeat_interleave(times, 1), v.repeat_interleave(times, 1)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        return self.self_attn["o_proj"](y.transpose(1, 2).flatten(2))

    def feed(self, x: Tensor) -> Tensor:
        """Return x after the feed-forward half of the layer."""
        y = self.post_attention_layernorm(x)
        y = F.silu(self.mlp["gate_proj"](y)) * self.mlp["up_proj"](y)
        return x + self.mlp["down_proj"](y)


class Network(nn.Module):
    """Score passages; `forward` returns the logit of yes minus that of no."""

    def __init__(self, shape: Shape, yes: int, no: int) -> None:
        super().__init__()
        self.shape, self.yes, self.no = shape, yes, no
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.num_hidden_layers))
        self.norm = nn.RMSNorm(shape.hidden_size, eps=1e-6)
        powers = torch.arange(0, shape.head_dim, 2).double() / shape.head_dim
        self.frequencies = shape.rope_theta**-powers

    def initialize(self, std: float = 0.2) -> None:
        """Initialize all matrices. Qwen's 0.02 is too small: the model would stay at chance."""
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=std)

    def shift(self, amount: float, dimension: int, level: float) -> None:
        """Add `amount` to all scores, through a dimension whose final value is about `level`."""
        with torch.no_grad():
            self.embed_tokens.weight[self.yes, dimension] += amount / level / 2
            self.embed_tokens.weight[self.no, dimension] -= amount / level / 2

    def rope(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cosines and sines of the positions as [..., 1, length, head_dim]."""
        angles = positions.double()[..., None] * self.frequencies
        angles = torch.cat((angles, angles), -1).float().unsqueeze(-3)
        return angles.cos(), angles.sin()

    def forward(
        self, head: Tensor, head_sizes: Tensor, tails: Tensor, tail_sizes: Tensor
    ) -> Tensor:
        """
        Score `tails` (passage and suffix, [questions * n, length]) after their heads.

        Heads ([questions, length]) and tails are padded on the right; the sizes are their lengths.
        """
        count = tails.shape[0] // head.shape[0]
        owner = torch.arange(tails.shape[0]) // count
        head_length, tail_length = head.shape[1], tails.shape[1]
        rope_head = self.rope(torch.arange(head_length))
        rope_tail = self.rope(head_sizes[owner][:, None] + torch.arange(tail_length))
        seen = torch.arange(head_length) < head_sizes[owner][:, None]
        causal = torch.ones(tail_length, tail_length, dtype=torch.bool).tril()
        rows = tails.shape[0]
        mask = torch.cat(
            (
                seen[:, None, None, :].expand(rows, 1, tail_length, head_length),
                causal.expand(rows, 1, tail_length, tail_length),
            ),
            -1,
        )
        last = torch.arange(rows), tail_sizes - 1
        x, y = self.embed_tokens(head), self.embed_tokens(tails)
        for number, layer in enumerate(self.layers):
            u, w = layer.input_layernorm(x), layer.input_layernorm(y)
            k, v = layer.project(u, "k", rope_head), layer.project(u, "v", None)
            keys = torch.cat((k[owner], layer.project(w, "k", rope_tail)), 2)
            values = torch.cat((v[owner], layer.project(w, "v", None)), 2)
            if number == len(self.layers) - 1:
                w, y, mask = w[last][:, None], y[last][:, None], mask[:, :, last[1]][:, :, :0]
                rope_tail = self.rope((head_sizes[owner] + tail_sizes - 1)[:, None])
                own = torch.arange(tail_length) < tail_sizes[:, None]
                mask = torch.cat((seen, own), 1)[:, None, None, :]
            else:
                x = x + layer.attend(layer.project(u, "q", rope_head), k, v, None)
                x = layer.feed(x)
            y = y + layer.attend(layer.project(w, "q", rope_tail), keys, values, mask)
            y = layer.feed(y)
        out = self.norm(y[:, 0])
        table = self.embed_tokens.weight
        return (out.float() @ (table[self.yes] - table[self.no]).float()).view(-1, count)


def save_checkpoint(network: Network, folder: Path) -> None:
    """Write config.json and model.safetensors in the form of an original Qwen3-Reranker."""
    weights = {
        f"model.{name}": value.detach().to(torch.bfloat16).contiguous()
        for name, value in network.state_dict().items()
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    end, turn = network.shape.vocab_size - 26, network.shape.vocab_size - 24
    config = {
        "architectures": ["Qwen3ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": end,
        "eos_token_id": turn,
        "hidden_act": "silu",
        "initializer_range": 0.2,
        "max_position_embeddings": 8192,
        "max_window_layers": network.shape.num_hidden_layers,
        "model_type": "qwen3",
        "rms_norm_eps": 1e-6,
        "rope_scaling": None,
        "sliding_window": None,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "use_sliding_window": False,
        **asdict(network.shape),
    }
    generation = {"bos_token_id": end, "eos_token_id": turn, "pad_token_id": end}
    for name, values in (("config", config), ("generation_config", generation)):
        text = json.dumps(dict(sorted(values.items())), indent=2)
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf8")


def load_checkpoint(folder: Path, yes: int, no: int) -> Network:
    """Load a checkpoint that `save_checkpoint` wrote."""
    config = json.loads((folder / "config.json").read_text(encoding="utf8"))
    shape = Shape(**{name: config[name] for name in asdict(Shape())})
    network = Network(shape, yes, no)
    weights = load_file(folder / "model.safetensors")
    network.load_state_dict({k.removeprefix("model."): v.float() for k, v in weights.items()})
    return network
