"""Choose an instruction on one half of the queries, and measure it on the other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qwen3_reranker.errors import InputError
from qwen3_reranker.evaluation.dataset import Dataset
from qwen3_reranker.evaluation.evaluation import evaluate, with_candidates
from qwen3_reranker.evaluation.recommendation import p_text
from qwen3_reranker.evaluation.report import Report
from qwen3_reranker.evaluation.results import best_of
from qwen3_reranker.evaluation.statistics import randomization_test
from qwen3_reranker.evaluation.systems import System
from qwen3_reranker.evaluation.text import text_table
from qwen3_reranker.model.template import DEFAULT_INSTRUCTION

__all__ = ["TuningReport", "tune"]

_DEFAULT = "default instruction"
_CHOSEN = "chosen instruction"


@dataclass(frozen=True)
class TuningReport:
    """
    The result of `tune()`.

    Attributes:
        instruction: The instruction that was best on the first half. None is the default one.
        metric: The metric that decided.
        chosen_on: The report of the first half, with a system for each instruction.
        reported_on: The report of the second half, which was not used to choose: the default
            instruction and, if it is another one, the chosen one.
        gain: The mean of the metric on the second half less that of the default instruction.
        p_value: The p-value of the gain, by a paired randomization test.
    """

    instruction: str | None
    metric: str
    chosen_on: Report
    reported_on: Report
    gain: float
    p_value: float

    def table(self) -> str:
        """Return the metric of each instruction as a table in plain text, and the conclusion."""
        other = self.reported_on.systems[-1]
        chosen, held_out = self.chosen_on, self.reported_on
        header = [f"{self.metric} on {chosen.dataset.queries} queries", ""]
        rows = [header] + [
            [system.instruction or _DEFAULT, f"{system.metrics[self.metric]:.3f}"]
            for system in chosen.systems[1:]
        ]
        if self.instruction is None:
            said = "No instruction was better than the default one."
        else:
            default = held_out[_DEFAULT].metrics[self.metric]
            said = (
                f'The best is "{self.instruction}". On the other {held_out.dataset.queries} '
                f"queries, which were not used to choose it, {self.metric} is "
                f"{other.metrics[self.metric]:.3f} with it and {default:.3f} with the default one "
                f"({self.gain:+.3f}, {p_text(self.p_value)})."
            )
        return f"{text_table(rows)}\n\n{said}"


def tune(
    dataset: Dataset,
    system: System,
    instructions: Iterable[str],
    *,
    metric: str = "nDCG@10",
    seed: int = 0,
    **settings: Any,
) -> TuningReport:
    """
    Choose an instruction on one half of the queries, and measure it on the other.

    An instruction that is the best of many on some queries owes part of that to these queries. The
    gain is therefore measured on queries that were not used to choose it. The default instruction
    always takes part.

    Args:
        dataset: Queries, candidates and judgments, see `evaluate()`.
        system: The model or server, its depth and its length limit. Its own instruction, or that of
            its reranker, is not used.
        instructions: The instructions to choose from: one English sentence each.
        metric: What decides.
        seed: Decides which queries are in which half.
        **settings: Further arguments of `evaluate()`, except `metrics`.

    Raises:
        InputError: An argument cannot be used, there is no instruction other than the default one,
            or a half has no query with a relevant document.
        RerankerError: Scoring failed. The scores that are known already are stored.
    """
    given = [text for text in dict.fromkeys(instructions) if text != DEFAULT_INSTRUCTION]
    if isinstance(instructions, str) or not given:
        raise InputError(
            f"instructions={instructions!r}: give a list of at least one sentence other than the "
            "default instruction"
        )
    dataset = with_candidates(dataset, [system.depth])  # once, not for each half
    first, second = dataset.halves(seed)
    # None would stand for the reranker's own instruction, if it has one.
    own = system.reranker is not None and system.reranker.instruction is not None
    default = replace(system, instruction=DEFAULT_INSTRUCTION if own else None, name=_DEFAULT)
    numbered = [
        replace(system, instruction=text, name=f"instruction {number}")
        for number, text in enumerate(given, 1)
    ]
    chosen_on = evaluate(first, [default, *numbered], metrics=[metric], **settings)
    best = best_of(chosen_on.systems[1:], metric)  # the default one wins a tie
    finalists = [default]
    if best.name != _DEFAULT:
        finalists.append(replace(system, instruction=best.instruction, name=_CHOSEN))
    reported_on = evaluate(second, finalists, metrics=[metric], **settings)
    before, after = reported_on[_DEFAULT], reported_on.systems[-1]
    return TuningReport(
        best.instruction,
        metric,
        chosen_on,
        reported_on,
        after.metrics[metric] - before.metrics[metric],
        randomization_test(np.array(before.per_query[metric]), np.array(after.per_query[metric])),
    )
