"""A teacher's scores as a file: log-probs of given rollouts, row for row (arXiv 2604.13010)."""

from __future__ import annotations

import torch

from opd_steps.config.asks import Asks
from opd_steps.errors import NotFinite
from opd_steps.loop.chunked import chunked_sum
from opd_steps.nouns.heard import woven
from opd_steps.rollout.table import read_rollouts, write_scores
from opd_steps.steps._engines import engine_teacher, start_teacher
from opd_steps.steps._main import main
from opd_steps.steps._models import load_policy, require_made_with, weights_id
from opd_steps.store.artifacts import Job


@torch.no_grad()
def run(job: Job) -> None:
    """Score every token, at the rollouts' own temperature where the node names none; store the k likeliest tokens where `topk` asks for
    them.
    """
    options, table = job.options, job.manifests["rollouts"]["facts"]
    elsewhere = options["teacher_engine"]["name"] != "local"
    asks = Asks(sampled=True, topk=options["topk"])
    sampling = table["sampling"] | ({} if options["temperature"] is None else {"temperature": options["temperature"]})
    if elsewhere:
        teacher = engine_teacher(job, "teacher", options["teacher_engine"], "teacher_engine", asks, sampling["temperature"])
    else:
        teacher = load_policy(job, "teacher", sampling)
    require_made_with(teacher, job, "rollouts", "teacher")
    rows = read_rollouts(job.path("rollouts"))
    if elsewhere:
        lengths = ((len(c), len(behind)) for c, behind in zip(rows.contexts, woven(rows)[0], strict=True))
        start_teacher(job, teacher, "teacher", options["teacher_engine"], "teacher_engine", lengths)
    logp, ids, topk = [], [], []
    for start in range(0, len(rows), options["micro_batch"]):
        part = rows.rows(slice(start, start + options["micro_batch"]))
        part = teacher.prepare(part) if elsewhere else part
        action_N, lengths = part.action_N.to("cpu" if elsewhere else teacher.device), part.length_B.tolist()
        found: list[tuple] = []

        def read(q, i, j, action_N=action_N, found=found):
            best = q.topk(options["topk"]) if options["topk"] else (torch.empty(j - i, 0), torch.empty(j - i, 0))
            found.append((q.logp(action_N[i:j]).cpu(), best[1].cpu(), best[0].cpu()))
            return torch.zeros(())

        chunked_sum(teacher.dist(part), read)
        for column, values in zip((logp, ids, topk), zip(*found, strict=True), strict=True):
            column.extend(torch.cat(values).split(lengths))
    if not all(torch.cat(column).isfinite().all() for column in (logp, topk)):
        raise NotFinite(str(job.path("teacher")), "its log-probs of the rollouts are not finite")
    write_scores(job.stage, logp, *((ids, topk) if options["topk"] else ()))
    facts = {"teacher": weights_id(job, "teacher"), **teacher.family.identity(teacher), "topk": options["topk"]}
    job.publish({"score/sequences": float(len(rows)), "score/tokens": float(rows.length_B.sum())}, facts)


if __name__ == "__main__":
    main(run)
