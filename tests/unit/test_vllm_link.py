"""What two ranks and their servers do together, against servers that are no vLLM: shares, deaths, signals, weights."""

from __future__ import annotations

import os
import signal
import threading
import time
from copy import deepcopy
from functools import partial

import pytest
import torch
from safetensors.torch import load_file

from opd_steps.config.asks import Asks
from opd_steps.errors import UserError
from opd_steps.graph.options import Engine
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.nouns.adapted import merged
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.process import kv, lifetime, ranks, spans
from opd_steps.process.lifetime import StopFlag, Stopped
from opd_steps.rollout import vllm_server, vllm_student, weights
from opd_steps.rollout.vllm_link import RESTARTS
from opd_steps.rollout.vllm_server import VllmServer
from opd_steps.rollout.vllm_student import VllmStudent
from opd_steps.teachers.engine import EngineTeacher
from tests.unit.forked import on_ranks
from tests.unit.test_tune import adapted
from tests.unit.test_vllm_server import in_bytes, scored, serving, tokenizer
from tests.unit.tiny import FakeTokenizer, qwen

VOCAB = 24
ROWS = [[1 + i, *range(2, 3 + i % 4)] for i in range(7)]


class Own:
    """In the place of vllm_process.OwnServer: a server that dies is there again at once."""

    def __init__(self, url, log):
        self.url, self.log, self.starts = url, log, 0

    def start(self):
        self.starts += 1
        return self.url

    def end(self):
        pass

    def last_error(self):
        return "EngineDeadError"


class Fake:
    """A student's and a teacher's server at once. Token ids that it draws are a function of the row's seed; log-probs are those of
    `model`, and weights that are sent go into it."""

    def __init__(self, model):
        self.model, self.deaths, self.told = model, [], []
        self.lock = threading.Lock()
        self.routes = {
            "models": {"data": [{"id": "it", "root": "/models/it", "max_model_len": 200}]},
            "tokenize": {"tokens": [1, 2]},
            "completions": self.completions,
            "scores": self.scores,
            "health": {},
            "metrics": 404,
            "update_weights": self.take,
        }
        for name in ("init_weight_transfer_engine", "start_weight_update", "finish_weight_update", "reset_prefix_cache"):
            self.routes[name] = lambda _, name=name: self.say(name)

    def dies(self, who: str) -> bool:
        """Whether it dies at this request."""
        with self.lock:
            if who in self.deaths:
                self.deaths.remove(who)
                return True
        return False

    def say(self, what: str):
        self.told.append(what)
        return None if self.dies(what) else {}

    def take(self, asked: dict):
        found = load_file(asked["update_info"]["path"])
        self.told.append(sorted(found))
        if self.dies("update_weights"):
            return None
        self.model.load_state_dict(found, strict=False)
        return {}

    def logp_TV(self, row):
        with torch.no_grad():
            return torch.log_softmax(self.model(input_ids=torch.tensor([row])).logits[0].float(), -1)

    def completions(self, asked: dict):
        row = asked["prompt"]
        if isinstance(row[0], list):  # VllmServer's first question
            return scored(asked)
        if "seed" in asked:
            self.told.append(("sample", tuple(row)))
            if self.dies(f"seed {asked['seed']}"):
                return None
            tokens = [asked["seed"] % VOCAB] * (1 + asked["seed"] % asked["max_tokens"])
        else:
            tokens = [int(self.logp_TV(row)[-1].argmax())]
        places = self.logp_TV([*row, *tokens])
        said = [float(places[len(row) + i - 1, token]) for i, token in enumerate(tokens)]
        read = [None, *({str(t): {"logprob": float(places[i, t]), "rank": 1}} for i, t in enumerate(row[1:]))]
        return {
            "choices": [
                {
                    "index": 0,
                    "token_ids": tokens,
                    "logprobs": {"token_logprobs": said},
                    "finish_reason": "stop",
                    "prompt_logprobs": read,
                }
            ]
        }

    def scores(self, asked: dict):
        self.told.append(("score", *map(tuple, asked["rows"])))
        if any(self.dies(f"row {row}") for row in asked["rows"]):
            return None
        return in_bytes(asked)


@pytest.fixture
def fake(monkeypatch):
    found = Fake(qwen(VOCAB, 0, True))
    answer = lambda asked, name: now(asked) if callable(now := found.routes[name]) else now  # as the test has it by then
    with serving(**{name: partial(answer, name=name) for name in found.routes}) as url:
        for module in (vllm_server, vllm_student):
            monkeypatch.setattr(module, "OwnServer", lambda path, options, dtype, scores, log, *_: Own(url, log))
        monkeypatch.setattr(vllm_student, "GLANCE", 0.5)
        found.url = url
        yield found


def teacher(url: str = "") -> VllmServer:
    return VllmServer("/models/it", {"url": url}, "float32", tokenizer, 0, "server.log")


def student(learns: bool = True) -> VllmStudent:
    options = vars(Engine()) | {"name": "server"}
    return VllmStudent("/models/it", options, "float32", [0], "server.log", learns)


def scores(url: str = "", wait: str = "") -> tuple[list, int, int]:
    """(log-probs, restarts, starts), and on ranks but the first a SIGTERM `wait`: before, or while they score."""
    server = teacher(url)
    if wait:
        lifetime._flag = None
        StopFlag()
        if not ranks.first():
            term = lambda: os.kill(os.getpid(), signal.SIGTERM)
            term() if wait == "before" else threading.Timer(0.5, term).start()
    logp, *_ = server.score(ROWS, [1] * len(ROWS), 0)
    return [row.tolist() for row in logp], server.restarts, server.own.starts if server.own else 0


EXPECTED = [[-float(t) for t in row[1:]] for row in ROWS]


def test_each_rank_asks_for_its_share_and_all_know_all(fake):
    assert on_ranks(2, scores) == [(EXPECTED, 0, 1), (EXPECTED, 0, 0)]
    asked = [row for told in fake.told if told[0] == "score" for row in told[1:]]
    assert sorted(asked) == sorted(map(tuple, ROWS))


def test_a_server_that_dies_under_one_rank_is_started_again_by_the_first(fake):
    """Twice at most; the rows that are there already are not asked for again."""
    fake.deaths = [f"row {ROWS[1]}"]  # of the second rank
    assert on_ranks(2, scores) == [(EXPECTED, 1, 2), (EXPECTED, 1, 0)]
    asked = [row for told in fake.told if told[0] == "score" for row in told[1:]]
    assert [asked.count(tuple(row)) for row in ROWS] == [1, 2, 1, 2, 1, 2, 1]
    fake.deaths = [f"row {ROWS[1]}"] * (RESTARTS + 1)
    for error in on_ranks(2, scores):
        assert error.kind is UserError and "the teacher's server ended 3 times" in error.says


def test_one_at_an_address_that_dies_under_one_rank_ends_all(fake):
    fake.routes["completions"] = lambda asked: None if ROWS[1] in asked["prompt"] else scored(asked)
    for error in on_ranks(2, scores, fake.url):
        assert error.kind is UserError and "the server is gone" in error.says


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_signal_to_one_rank_stops_all(fake, when):
    if when == "meanwhile":
        fake.routes["scores"] = lambda asked: time.sleep(3) or in_bytes(asked)
    assert [found.kind for found in on_ranks(2, scores, "", when)] == [Stopped, Stopped]


SAID = """# HELP vllm:kv_cache_usage_perc KV-cache usage. 1 means 100 percent usage.
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="a {b}"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="a {b}"} 0.5
# TYPE vllm:num_preemptions counter
vllm:num_preemptions_total{engine="0",model_name="a {b}"} 3.0
vllm:num_preemptions_total{engine="1",model_name="a {b}"} 1.0
vllm:num_preemptions_created{engine="0",model_name="a {b}"} 1.76e+09
"""


def test_a_server_is_asked_how_full_its_cache_is(fake, monkeypatch):
    """While it samples and at the end; its count of preemptions begins anew when it does, ours goes on."""
    monkeypatch.setattr(kv, "sampling", kv.Cache())
    asked = {"max_new_tokens": 2, "temperature": 1.0, "top_p": 1.0}
    engine = student(learns=False)

    def seen(said: bytes | int) -> tuple[float, int]:
        fake.routes["metrics"] = said
        engine.generate(ROWS, range(7), **asked)
        return kv.sampling.most, kv.sampling.preempted

    assert seen(SAID.encode()) == (0.5, 4)
    assert seen(SAID.replace("0.5", "0.125").replace("3.0", "5.0").encode()) == (0.5, 6)
    engine._start()
    assert seen(SAID.replace("3.0", "1.0").encode()) == (0.5, 8)
    assert seen(404) == (0.5, 8)


def test_a_long_row_is_looked_at_meanwhile(fake, monkeypatch):
    monkeypatch.setattr(kv, "sampling", kv.Cache())
    monkeypatch.setattr(vllm_student, "GLANCE", 0.1)
    looks = []
    fake.routes["metrics"] = lambda _: looks.append(1) or SAID.encode()
    completions = fake.routes["completions"]
    fake.routes["completions"] = lambda asked: time.sleep(0.5) or completions(asked)
    student(learns=False).generate(ROWS[:1], [0], max_new_tokens=2, temperature=1.0, top_p=1.0)
    assert len(looks) > 1 and kv.sampling.preempted == 4


def sampled(model, deaths: tuple = ()) -> dict:
    """Three versions of a sharded student's rows, and what they are without a server."""
    sharded = ranks.shard(model)
    policy = LMPolicy(sharded, FakeTokenizer(VOCAB), max_new_tokens=4)
    policy.engine = student()
    vllm_student.in_files = partial(weights.in_files, most=3000)  # several of them
    found = {"rows": []}
    for version in (0, 1, 2):
        if version:
            with torch.no_grad():
                for weight in sharded.parameters():
                    weight.mul_(1.1)
        rows = policy.rollout(ROWS, range(7), range(7), version)
        dist = policy.dist(rows)
        gap = dist.chunk(0, len(dist)).logp_NV.gather(-1, rows.action_N[:, None])[:, 0] - rows.logp_N
        found["rows"].append(([row.tolist() for row in rows.actions], float(gap.abs().max())))
    return found | {"restarts": policy.engine.restarts, "version": policy.engine.version}


@pytest.mark.parametrize(
    ("deaths", "restarts"),
    [([], 0), (["update_weights"], 1), (["seed 3"], 1), (["finish_weight_update"], 1), (["reset_prefix_cache", "seed 4"], 2)],
    ids=lambda value: ", ".join(value) if isinstance(value, list) else "",
)
def test_a_sharded_student_is_sampled_by_one_server(fake, deaths, restarts):
    """With its newest weights, whatever dies when: each row's log-probs are those that the student itself gives it."""
    fake.deaths, begun = list(deaths), [name for name, _ in fake.model.named_parameters()]
    for found in on_ranks(2, sampled, qwen(VOCAB, 0, True)):
        assert found["restarts"] == restarts and found["version"] == 2
        for actions, gap in found["rows"]:
            assert actions == [[seed] * (1 + seed % 4) for seed in range(7)] and gap < 1e-5
    files = [told for told in fake.told if isinstance(told, list)]
    assert {name for file in files for name in file} == {*begun, "lm_head.weight"} and len(files) > 4
    assert fake.deaths == []


def test_weights_that_are_refused_end_the_run_with_one_line(fake):
    fake.routes["update_weights"] = 500
    with pytest.raises(UserError, match=r"engine: vLLM did not take the weights of step 3: 500 said so"):
        student().sync(qwen(VOCAB, 0, True), 3)


def test_files_hold_no_more_than_they_may(fake):
    """One weight alone may be larger; nothing is left of them, and tied weights are sent twice."""
    model, seen = qwen(VOCAB, 0, True), {}
    for path in weights.in_files(weights.whole(model, torch.bfloat16), 2000):
        found = load_file(path)
        sizes = [value.nbytes for value in found.values()]
        assert sum(sizes) - max(sizes) < 2000
        seen |= found
    assert not os.path.exists(path)
    for name, value in model.state_dict().items():
        assert torch.equal(seen[name], value.bfloat16())
    assert torch.equal(seen["lm_head.weight"], seen["model.embed_tokens.weight"])


def sent(model) -> dict[str, list] | None:
    """What the first of two ranks sends of a sharded model."""
    found = {name: value.tolist() for name, value in weights.whole(ranks.shard(model), torch.float32)}
    return found if ranks.first() else found or None


def test_a_sharded_adapter_is_sent_merged(fake):
    model, _ = adapted()
    with merged(model):
        expected = {name: value.clone() for name, value in model.state_dict().items()}
    found, nothing = on_ranks(2, sent, model)
    assert nothing is None and found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(torch.tensor(found[name]), value, rtol=1e-5, atol=1e-6)


def test_rows_are_scored_while_others_are_still_sampled(fake, monkeypatch):
    """An engine whose last row is slow: by then all others have been scored, and nothing is asked for twice."""
    monkeypatch.setattr(spans, "engines", spans.Spans())

    def completions(asked):
        if asked.get("seed") == 6:
            time.sleep(1.5)
        found = fake.completions(asked)
        if "seed" in asked:
            fake.told.append(("sampled", tuple(asked["prompt"])))
        return found

    fake.routes["completions"] = completions
    sampler, scorer = student(False), EngineTeacher(lambda k: teacher(), FakeTokenizer(VOCAB), Asks(sampled=True))
    scorer.start(8)
    sampler.listener = scorer.ahead
    policy = LMPolicy(qwen(VOCAB, 0, True), FakeTokenizer(VOCAB), max_new_tokens=4)
    policy.engine = sampler
    rows = policy.rollout(ROWS, range(7), range(7), 0)
    found = scorer.prepare(rows)
    assert [row.tolist() for row in found.extra["teacher:logp"]] == [[-float(t) for t in row] for row in rows.actions]
    order = [told[0] for told in fake.told if told[0] in ("sampled", "score")]
    assert order.count("score") == order.count("sampled") == 7
    last = len(order) - 1 - order[::-1].index("sampled")
    assert order[:last].count("score") == 6
    assert spans.engines.seconds["sample+score"] > 0


def test_rows_that_were_not_sampled_as_they_are_read_are_asked_for_as_ever(fake):
    """A teacher whose context differs finds nothing, and asks."""
    scorer = EngineTeacher(lambda k: teacher(), FakeTokenizer(VOCAB), Asks(sampled=True))
    scorer.start(8)
    scorer.ahead([1], torch.tensor([2, 3]))
    rows = Trajectory([[1], [1]], [torch.tensor([4]), torch.tensor([2, 3])], torch.arange(2))
    rows = rows.with_columns(extra={"context:teacher": [[5, 6], [1]]})
    found = scorer.prepare(rows)
    assert [row.tolist() for row in found.extra["teacher:logp"]] == [[-4.0], [-2.0, -3.0]]
    assert sorted(fake.told) == [("score", (1, 2, 3)), ("score", (5, 6, 4))]


def ahead(model) -> dict:
    """Rows begun by the first weights, and asked for behind an update; then rows of the newer weights."""
    old = LMPolicy(deepcopy(model), FakeTokenizer(VOCAB))
    policy = LMPolicy(ranks.shard(model), FakeTokenizer(VOCAB), max_new_tokens=4)
    policy.engine = student()
    policy.begin(ROWS, range(7), 0)
    with torch.no_grad():
        for weight in policy.model.parameters():
            weight.mul_(1.1)
    made = [policy.rollout(ROWS, range(7), range(7), version) for version in (0, 1)]
    assert not policy.engine.begun and [rows.version_B[0] for rows in made] == [0, 1]
    says = lambda rows: old.dist(rows).chunk(0, len(rows.action_N)).logp(rows.action_N)
    return {
        "actions": [[row.tolist() for row in rows.actions] for rows in made],
        "gaps": [float((says(rows) - rows.logp_N).abs().max()) for rows in made],
        "restarts": policy.engine.restarts,
    }


@pytest.mark.parametrize(("deaths", "restarts"), [([], 0), (["seed 3"], 1)], ids=str)
def test_rows_that_were_begun_before_an_update_are_sampled_once_and_by_the_weights_of_then(fake, deaths, restarts):
    """Where the server dies meanwhile they are sampled again, here by the weights that it begins with."""
    fake.deaths, tokens = list(deaths), [[seed] * (1 + seed % 4) for seed in range(7)]
    for found in on_ranks(2, ahead, qwen(VOCAB, 0, True)):
        assert found["actions"] == [tokens, tokens] and found["restarts"] == restarts
        assert found["gaps"][0] < 1e-5 and found["gaps"][1] > 1e-3
    samples = [told[1] for told in fake.told if told[0] == "sample"]
    assert deaths or sorted(samples) == sorted([*map(tuple, ROWS)] * 2)
