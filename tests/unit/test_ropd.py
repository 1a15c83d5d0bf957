"""ROPD (arXiv 2605.07396): rubrics of contrasts, a blind batch, failures, rewards; texts alone of the teacher; a critic behind HTTP."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from opd_steps.errors import UserError
from opd_steps.judges.critics._rubric import Criterion, NoRubric, Rubric
from opd_steps.judges.critics.openai_compatible import OpenAICompatible
from opd_steps.judges.critics.programmatic import Programmatic
from opd_steps.judges.rubric import RubricJudge
from opd_steps.nouns.bench import Bench
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.outcome import group_advantage
from opd_steps.rollout.table import read_texts
from opd_steps.store.artifacts import read_manifest, sealed
from opd_steps.store.files import write_json
from opd_steps.store.fingerprint import file_entry
from tests.pipeline.stages import Stages
from tests.unit.opd_toys import PARENTS, curve, nodes, run
from tests.unit.test_vllm_server import serving

SUMS = Programmatic(between=";", after="=")
RIGHT, OTHER = "7+5=2;2+8=0;0+3=3", "7+5=2;2+8=1;1+3=4"
TEACHER = [RIGHT, RIGHT, RIGHT, "7+5=2;2+8=9;9+3=2"]
STUDENTS = [RIGHT, OTHER, "7+5=2;2+8=0;0+3=4", "7+5=2", "", "x;" * 20]


@dataclass
class Pool:
    """Prompt i asks "q<i>"; a row says the text that its number stands for."""

    texts: list[str]

    def show(self, rows: Trajectory) -> list[str]:
        return [self.texts[int(a[0])] for a in rows.actions]

    def column(self, name: str, index: int) -> str:
        return f"q{index}"

    def name(self, index: int) -> str:
        return f"train-{index}"


def judged(judge: RubricJudge, groups: dict[int, list[str]], teacher: dict[int, list[str]] | None = None):
    """(rewards, rubrics' hashes, figures) of the groups' texts by prompt."""
    texts = [text for said in groups.values() for text in said]
    rows = Trajectory([[0]] * len(texts), [torch.tensor([i]) for i in range(len(texts))], _numbers(groups))
    bench = Bench({}, {}, Pool(texts), 8, 0, dict.fromkeys(groups, TEACHER) if teacher is None else teacher)
    found, figures = judge.judge(rows.with_columns(reward_B=torch.ones(len(texts))), bench)
    return found.reward_B, found.extra["rubric"], figures


def _numbers(groups: dict[int, list[str]]) -> torch.Tensor:
    return torch.tensor([prompt for prompt, said in groups.items() for _ in said])


def test_a_rubric_by_hand():
    """Teachers agree on the end 3 (3 of 4) and on four things more; points are 1 + 4 times what the students lack, rounded."""
    rubric = SUMS.rubric("7+5+8+3=", TEACHER, STUDENTS)
    gaps = {(c.category, c.text): c.points for c in rubric.criteria}
    share = lambda met, of: met / of
    wanted = {
        ("answer", "3"): 5,
        ("step", "0+3=3"): 1 + round(4 * (share(3, 4) - share(1, 6))),
        ("step", "2+8=0"): 1 + round(4 * (share(3, 4) - share(2, 6))),
        ("step", "7+5=2"): 1 + round(4 * (1 - share(4, 6))),
        ("at least", "3"): 1 + round(4 * (1 - share(4, 6))),
        ("at most", "3"): 1 + round(4 * (1 - share(5, 6))),
    }
    assert gaps == wanted
    verdicts = SUMS.verdicts(rubric, "", [RIGHT, "7+5=2;2+8=0;0+3=4", ""])
    assert all(verdicts[0]) and rubric.share(verdicts[0]) == 1
    met = {(c.category, c.text) for c, yes in zip(rubric.criteria, verdicts[1], strict=True) if yes}
    assert met == wanted.keys() - {("answer", "3"), ("step", "0+3=3")}
    assert rubric.share(verdicts[2]) == wanted["at most", "3"] / sum(wanted.values())


def test_a_rubric_has_four_to_twelve_criteria_of_one_to_five_points():
    made = lambda count, points=1: Rubric(tuple(Criterion("c", str(i), points) for i in range(count)))
    assert [len(made(n).criteria) for n in (4, 12)] == [4, 12] and made(4).digest != made(5).digest
    for wrong in ((3,), (13,), (4, 0), (4, 6), (4, 2.5), (4, True)):
        with pytest.raises(NoRubric):
            made(*wrong)
    long = ";".join(f"{i}+1={i + 1}" for i in range(30))
    assert len(SUMS.rubric("", [long] * 4, [""]).criteria) == 12
    with pytest.raises(NoRubric, match="3 criteria"):  # they agree on nothing but what follows from one step
        SUMS.rubric("", ["a=1", "b=2", "c=1", "d=1"], STUDENTS)


def test_samples_of_a_prompt_share_one_rubric_unless_each_has_its_own():
    groups = {0: STUDENTS, 5: [*STUDENTS[:2], ""]}
    _, shared, figures = judged(RubricJudge(SUMS), groups)
    assert [len(set(shared[:6])), len(set(shared[6:]))] == [1, 1] and len(set(shared)) == 2  # contrasts differ
    assert figures["rubric_failed"] == 0 and 0.8 < figures["rubric_teacher"] < 1 and figures["rubric_criteria"] == 6
    _, own, _ = judged(RubricJudge(SUMS, shared=False), groups)
    assert len(set(own[:6])) > 1


def test_whose_answer_it_is_and_where_it_stood_changes_nothing():
    """The batch is in the order of hashes, each text once: any order of samples gives each text the reward that it had."""

    @dataclass(frozen=True)
    class Seen(Programmatic):
        def verdicts(self, rubric, question, answers):
            batches.append(list(answers))
            return super().verdicts(rubric, question, answers)

    batches, draw = [], random.Random(0)
    judge = RubricJudge(Seen(between=";", after="="))
    first = dict(zip(STUDENTS, judged(judge, {0: STUDENTS})[0].tolist(), strict=True))
    for _ in range(8):
        order, others = draw.sample(STUDENTS, len(STUDENTS)), draw.sample(TEACHER, len(TEACHER))
        again = judged(judge, {0: order}, {0: others})
        assert dict(zip(order, again[0].tolist(), strict=True)) == first
    assert len({tuple(batch) for batch in batches}) == 1 and sorted(batches[0]) == sorted({*TEACHER, *STUDENTS})
    assert len(set(first.values())) >= 4


def test_a_critic_that_fails_gives_its_group_nothing_and_flags_it():
    @dataclass(frozen=True)
    class Lame(Programmatic):
        at: str = ""

        def rubric(self, question, teacher, students):
            if question == self.at:
                raise NoRubric
            return super().rubric(question, teacher, students)

    reward_B, digests, figures = judged(RubricJudge(Lame(";", "=", at="q5")), {0: STUDENTS, 5: STUDENTS})
    assert reward_B[6:].tolist() == [0.0] * 6 and digests[6:] == [""] * 6 and figures["rubric_failed"] == 0.5
    assert reward_B[0] == 1 and all(digests[:6])
    _, _, all_failed = judged(RubricJudge(Lame(";", "=", at="q0")), {0: STUDENTS})
    assert all_failed == {"rubric_reward": 0.0, "rubric_failed": 1.0}
    with pytest.raises(UserError, match="3 of prompt train-0; the judge rubric reads 4"):
        judged(RubricJudge(SUMS), {0: STUDENTS}, {0: TEACHER[:3]})


def test_gap_is_pass_rate_less_a_constant_of_the_group_and_gives_the_same_advantages():
    groups = {0: STUDENTS, 5: [*STUDENTS[1:4], ""]}
    plain, gap = (judged(RubricJudge(SUMS, reward=reward), groups)[0] for reward in ("pass_rate", "gap"))
    group_B = _numbers(groups)
    for prompt in groups:
        less = (plain - gap)[group_B == prompt]
        assert less.max() - less.min() < 1e-6 < less.min()
    for divide in (False, True):
        mine, theirs = (group_advantage(reward_B, group_B, "group_mean", divide) for reward_B in (plain, gap))
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)
        for prompt in groups:
            assert float(mine[group_B == prompt].sum()) == pytest.approx(0, abs=1e-5)
    assert plain.tolist() != judged(replace(RubricJudge(SUMS), answers=1), groups)[0].tolist()


def test_thoughts_are_not_read():
    groups = {0: [f"<think>{OTHER}</think>{RIGHT}", f"<think>{RIGHT}", RIGHT]}
    reward_B = judged(RubricJudge(SUMS), groups)[0]
    assert reward_B[0] == reward_B[2] == 1 and reward_B[1] < 0.5


def test_in_training_the_teacher_is_its_texts_alone(tmp_path):
    """Log-probs and tokens of its rollouts are gone from the file and its model is deleted: nothing else is read."""
    made = Path(shutil.copytree(nodes(), tmp_path / "made"))
    sampling = {"n": 4, "max_new_tokens": 6}
    Stages(made).run("texts", "rollout", {"policy": PARENTS["teacher"], "data": "data/data"}, sampling=sampling)
    table = made / "p/rollout/texts/seed0/rollouts.parquet"
    texts = read_texts(table.parent)
    assert {len(each) for each in texts.values()} == {4} and len(texts) == 7
    pq.write_table(pq.read_table(table, columns=["prompt", "text"]), table)
    manifest = {key: value for key, value in read_manifest(table.parent).items() if key != "sha256"}
    manifest["files"][table.name] = file_entry(table)
    write_json(table.parent / "manifest.json", sealed(manifest))
    assert read_texts(table.parent) == texts
    shutil.rmtree(made / "p" / PARENTS["teacher"])
    parents = {"teacher": None, "reference": None, "answers": "rollout/texts"}
    judge = {"name": "rubric", "answers": 1, "critic": {"name": "programmatic", "between": "7"}}
    train = lambda folder, **more: run(tmp_path / folder, parents=parents, made=made, sampling={"n": 4}, judges=[judge], **more)
    found = train("a", method={"signal": "outcome", "divide_by_std": False})
    assert found.manifest["metrics"]["teacher/sequences"] == 0
    rewards, failed = (curve(found.metrics, name) for name in ("rubric_reward", "rubric_failed"))
    assert len(rewards) == 8 and max(rewards) > 0 and min(failed) < 1
    assert curve(found.metrics, "reward") != rewards  # the task's own verdicts stay what the curve of rewards shows


def replying(*said: str):
    """A /v1 server that gives these replies in turn, and what it was asked."""
    asked, left = [], list(said)

    def answer(request: dict):
        asked.append(request)
        return {"choices": [{"message": {"content": left.pop(0)}}]}

    return serving(completions=answer), asked


MADE = (
    '<think>[1]</think>Here: [{"category": "a", "criterion": "c%d", "points": 5}'
    + "".join(f', {{"category": "b", "criterion": "c{i}", "points": {i}}}' for i in (1, 2, 3))
    + "]"
)


def test_a_language_model_is_a_critic_behind_http(monkeypatch):
    monkeypatch.setenv("RUBRIC_TEST_KEY", "secret")
    texts = sorted({*TEACHER, *STUDENTS[:2]})
    server, asked = replying(MADE.replace("%d", "0"), str([[True, False, True, False]] * len(texts)).lower())
    with server as url:
        judge = RubricJudge(OpenAICompatible("critic", f"{url}/v1/", "RUBRIC_TEST_KEY"))
        reward_B, digests, figures = judged(judge, {3: STUDENTS[:2]})
    assert reward_B.tolist() == pytest.approx([7 / 11] * 2) and len(set(digests)) == 1 and digests[0]
    assert figures["rubric_criteria"] == 4 and [a["temperature"] for a in asked] == [0.0, 0.0]
    assert '"question": "q3"' in asked[0]["messages"][1]["content"] and '"c0", "c1"' in asked[1]["messages"][1]["content"]


@pytest.mark.parametrize(
    "reply", ["no list", "[]", '{"a": 1}', "[1, 2, 3, 4]", "[" * 9, '[{"category": "a", "criterion": "b"}]']
)
def test_a_reply_that_is_no_rubric_fails_its_group(reply):
    server, _ = replying(reply)
    with server as url:
        reward_B, digests, figures = judged(RubricJudge(OpenAICompatible("critic", f"{url}/v1")), {0: STUDENTS})
    assert (reward_B == 0).all() and set(digests) == {""} and figures["rubric_failed"] == 1


@pytest.mark.parametrize("reply", ["[[true]]", "[[1, 0, 1, 0]]", "[true, true]"])
def test_verdicts_that_do_not_fit_fail_the_group(reply):
    server, asked = replying(MADE.replace("%d", "0"), reply)
    with server as url:
        _, _, figures = judged(RubricJudge(OpenAICompatible("critic", f"{url}/v1")), {0: STUDENTS})
    assert figures["rubric_failed"] == 1 and len(asked) == 2


def test_a_server_that_is_not_there_ends_the_step():
    """Else all rewards would be 0, and nobody would know why."""
    with serving(completions=500) as url, pytest.raises(UserError, match="refuses the request: 500"):
        judged(RubricJudge(OpenAICompatible("critic", f"{url}/v1")), {0: STUDENTS})
    with pytest.raises(UserError, match="no judge answers there"):
        judged(RubricJudge(OpenAICompatible("critic", f"{url}/v1")), {0: STUDENTS})
