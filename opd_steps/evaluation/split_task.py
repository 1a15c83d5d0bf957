"""A split of our own as lm-eval tasks: one greedy, one with k samples a prompt."""

from __future__ import annotations

from dataclasses import dataclass, field

from datasets import Dataset

from opd_steps.evaluation.pass_at_k import pass_at_k
from opd_steps.tasks.pool import PromptPool


@dataclass
class SplitTask:
    """One split's prompts, and what a model answered to them once lm-eval has run the tasks.

    greedy     row -> completion (`<split>/accuracy`)
    sampling   temperature and top_p of the k samples
    samples    row -> the k sampled completions (`<split>/avg_at_k`, `<split>/pass_at_k`)
    scores     (row, its completions) -> 0 or 1 each by the data set's verifier, asked once: it may compare them
    """

    split: str
    pool: PromptPool
    k: int
    sampling: dict[str, float]
    max_new_tokens: int
    end: str
    greedy: dict[int, str] = field(default_factory=dict)
    samples: dict[int, list[str]] = field(default_factory=dict)
    scores: dict[tuple[int, tuple[str, ...]], list[float]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """lm-eval's names of the tasks: `test`, `test@8`."""
        return [self.split, *([f"{self.split}@{self.k}"] if self.k else [])]

    def configs(self) -> list[dict]:
        """The tasks as lm-eval's inline task dicts."""
        tasks = [self._config(self.split, 1, {"do_sample": False, "temperature": 0.0}, self._score_greedy, ["accuracy"])]
        if self.k:
            sampled = {"do_sample": True, **self.sampling}
            tasks.append(self._config(self.names[1], self.k, sampled, self._score_samples, ["avg_at_k", "pass_at_k"]))
        return tasks

    def _config(self, name: str, repeats: int, sampling: dict, score, metrics: list[str]) -> dict:
        rows = [{"row": i, "prompt": row["prompt"]} for i, row in enumerate(self.pool.rows)]
        return {
            "task": name,
            "custom_dataset": lambda **_: {"test": Dataset.from_list(rows)},
            "test_split": "test",
            "output_type": "generate_until",
            "num_fewshot": 0,
            "doc_to_text": lambda doc: doc["prompt"],  # not a template: a prompt may hold braces
            "doc_to_target": lambda doc: str(self.pool.rows[doc["row"]]["answer"]),
            "generation_kwargs": {"until": [self.end], "max_gen_toks": self.max_new_tokens, **sampling},
            "repeats": repeats,
            # lm-eval's default filter keeps the first of the repeats alone
            "filter_list": [{"name": "none", "filter": [{"function": "take_first_k", "k": repeats}]}],
            "process_results": score,
            "metric_list": [{"metric": m, "aggregation": "mean", "higher_is_better": True} for m in metrics],
        }

    def _score_greedy(self, doc: dict, results: list[list[str]]) -> dict[str, float]:
        ((completion,),) = results
        self.greedy[doc["row"]] = completion
        return {"accuracy": self.judged(doc["row"], [completion])[0]}

    def _score_samples(self, doc: dict, results: list[list[str]]) -> dict[str, float]:
        (completions,) = results
        self.samples[doc["row"]] = list(completions)
        c = self.correct(doc["row"])
        return {"avg_at_k": c / self.k, "pass_at_k": pass_at_k(self.k, c, self.k)}

    def judged(self, row: int, completions: list[str]) -> list[float]:
        key = row, tuple(completions)
        if key not in self.scores:
            found = self.pool.task.verifier.judge(completions, [self.pool.rows[row]] * len(completions))
            self.scores[key] = [float(reward > 0) for reward in found]
        return self.scores[key]

    def correct(self, row: int) -> int:
        """c: how many of the row's samples are correct."""
        return int(sum(self.judged(row, self.samples[row])))

    def measures(self) -> dict[str, float]:
        """`<split>/<name>`: what the verifier measures of all samples beside correctness."""
        pairs = [(row, text) for row, texts in self.samples.items() for text in texts]
        answers = [self.pool.rows[row]["answer"] for row, _ in pairs]
        scores = [score for row, texts in self.samples.items() for score in self.judged(row, texts)]
        found = self.pool.task.verifier.measure([text for _, text in pairs], answers, scores)
        return {f"{self.split}/{name}": value for name, value in found.items()}

    def table(self, shown: int = 2) -> list[dict]:
        """What was answered to each prompt, with the first `shown` samples."""
        rows = []
        for i, row in enumerate(self.pool.rows):
            entry = {"id": row["id"], "prompt": row["prompt"], "answer": row["answer"], "greedy": self.greedy[i]}
            entry["correct"] = bool(self.judged(i, [self.greedy[i]])[0])
            if self.k:
                entry |= {"samples": self.samples[i][:shown], "c": self.correct(i)}
            rows.append(entry)
        return rows
