"""Which plugs go together in one term of a method. The constants that decide it are explained in the Protocols of their groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from opd_steps.config.asks import Asks
from opd_steps.config.needs import GROUPS, _constant, _core_need, asks, looks_beyond, rows_need
from opd_steps.config.plugs import constant
from opd_steps.errors import UserError

_RATIO_OPTIONS = ("clip_low", "clip_high", "is_cap", "mask_low", "mask_high")


@dataclass(frozen=True)
class Answer:
    """What a teacher can say of a decision point.

    full     of any action; else of the sampled one alone, and of its likeliest `topk`
    hidden   its hidden states, too: a torch model in the step's own process
    refusal  what is said to a term that asks for more
    """

    full: bool = True
    topk: int = 0
    hidden: bool = True
    refusal: str = "{who} asks for hidden states, which an engine does not tell: use local"


LIVE = Answer()
ENGINE = Answer(hidden=False)
SAMPLER = Answer(False, 0, False, "{who} asks about more than the sampled token, which is all that is known here")
HIDDEN = Answer(False, 0, True, "{who} asks the teacher about tokens; with these weights it tells hidden states alone")


def table(topk: int) -> Answer:
    """Of a scores table that stores so many of the likeliest tokens."""
    return Answer(False, topk, False, "{who} asks the teacher about any token; a scores table can't answer, a live teacher can")


def check_stream(
    options: dict,
    where: str,
    teachers: Mapping[str, Answer],
    sampling: dict | None = None,
    sampled: bool = True,
) -> None:
    """Raise UserError, naming key and reason, for a stream (graph.method.Term) that cannot work.

    `teachers`: what those of the node can answer, by name; `sampling`: of the rollouts; `sampled`: whether a policy sampled all
    rows that the stream looks at.
    """
    _check_row(options, where)
    _check_transforms(options, where)
    _check_target(options, where, teachers)
    _check_ratio(options, where, sampling or {})
    for whom, asked in asks(options).items():
        if whom != "student":
            _check_teacher(options, where, whom, asked, teachers)
    need = rows_need(options)
    if need == "groups" and (sampling or {}).get("n", 2) < 2:
        raise UserError(where, "this term compares samples of one prompt: set sampling.n to 2 or more")
    if need != "none" and not sampled:
        raise UserError(
            where, "a part of this term asks who sampled the rows, or how they were judged; rows of a data set have neither"
        )


def _check_row(options: dict, where: str) -> None:
    support, signal, estimator, baseline = (options[s]["name"] for s in ("support", "signal", "estimator", "baseline"))
    sampled = _constant(options, "support", "TEACHER") == "sampled"
    accepts = {a: _constant(options, "estimator", a) for a in ("SUPPORT", "SIGNAL", "BASELINE")}
    no_divergence = _constant(options, "signal", "KIND") == "observed"
    if accepts["SUPPORT"] == "sampled" and not sampled:
        raise UserError(
            f"{where}.support", f"{estimator} is an estimator on the sampled action; its support is sampled, not {support}"
        )
    if accepts["SUPPORT"] == "set" and sampled:
        raise UserError(
            f"{where}.support", f"{estimator} sums over a set of tokens; one sampled action is none: take full or a top-k"
        )
    if no_divergence and accepts["SIGNAL"] != "any":
        raise UserError(
            f"{where}.estimator", f"the signal {signal} is a reward without a divergence; only pg can use it, not {estimator}"
        )
    if no_divergence and not sampled:
        raise UserError(
            f"{where}.support", f"the signal {signal} is known for the sampled action alone; its support is sampled"
        )
    if no_divergence and baseline != "none":
        raise UserError(
            f"{where}.baseline", f"the signal {signal} is an advantage already, from its group; its baseline is none"
        )
    if accepts["SIGNAL"] == "divergence" and _constant(options, "signal", "KIND") != "divergence":
        raise UserError(
            f"{where}.signal", f"{signal} is a reward, not a divergence that {estimator} could sum; only pg can use it"
        )
    if options["transform"] and not _constant(options, "estimator", "TRANSFORM"):
        raise UserError(f"{where}.transform", f"{estimator} has no advantage to transform; only pg has")
    if accepts["SIGNAL"] == "fixed" and signal not in ("log_ratio", "rkl"):
        raise UserError(f"{where}.signal", f"{estimator} has its own signal and would not look at {signal}; leave it out")
    if baseline != "none" and not accepts["BASELINE"]:
        raise UserError(f"{where}.baseline", f"{estimator} has no baseline to subtract; only pg has")


def _check_transforms(options: dict, where: str) -> None:
    for i, item in enumerate(options["transform"]):
        has = lambda attribute, name=item["name"]: constant(GROUPS["transform"], name, attribute)
        at = f"{where}.transform[{i}]"
        if _constant(options, "support", "TEACHER") != "sampled" and (has("WIDE") or has("OUTCOME")):
            raise UserError(at, f"{item['name']} speaks of the sampled action; its support is sampled")
        earlier = [constant(GROUPS["transform"], other["name"], "WIDE") for other in options["transform"][:i]]
        if has("WIDE") and not all(earlier):
            raise UserError(at, f"{item['name']} is added to the advantage before the others act: it comes before them")
        if not has("LOG_RATIO"):
            continue
        if options["signal"]["name"] not in ("log_ratio", "rkl") or options["baseline"]["name"] != "none":
            raise UserError(at, f"{item['name']} acts on the log-ratio itself: signal log_ratio, baseline none")
        if i:
            raise UserError(at, f"{item['name']} acts on the log-ratio itself: it comes first")


def _check_target(options: dict, where: str, teachers: Mapping[str, Answer]) -> None:
    target, signal, active = options["target"]["name"], options["signal"]["name"], looks_beyond(options)
    if active and "reference" not in teachers:
        shown = ", ".join(f"{k} {v}" for k, v in options["target"].items() if k != "name")
        raise UserError(
            f"{where}.target", f"{target} with {shown} looks beyond the teacher from a reference: reference: <model node>"
        )
    if active and not teachers.get(options["against"], LIVE).full and _core_need(options) != "sampled":
        raise UserError(
            f"{where}.target", f"{target} from a scores table works on the sampled token alone; its support is sampled"
        )
    weights = active and not _constant(options, "target", "NORMALISED")
    if weights and signal not in ("log_ratio", "rkl"):
        raise UserError(
            f"{where}.signal", f"{target} yields log-weights, not probabilities: its signal is log_ratio, not {signal}"
        )
    if weights and options["support"].get("norm") == "tail":
        raise UserError(f"{where}.support.norm", f"{target} yields log-weights, not probabilities: they leave no tail")
    if target != "teacher" and _core_need(options) == "none":
        raise UserError(f"{where}.target", f"this term asks no teacher and would not look at {target}; leave it out")


def _check_ratio(options: dict, where: str, sampling: dict) -> None:
    estimator = options["estimator"]
    if estimator.get("ratio") != "sampler":
        if bounded := [name for name in _RATIO_OPTIONS if estimator.get(name)]:
            raise UserError(f"{where}.estimator.{bounded[0]}", "it acts on the importance ratio: set ratio to sampler")
        return
    if (estimator.get("clip_low") or estimator.get("clip_high")) and estimator.get("is_cap"):
        raise UserError(f"{where}.estimator.is_cap", "clip and is_cap are two ways to bound the importance ratio: choose one")
    if _constant(options, "support", "TEACHER") != "sampled":
        raise UserError(
            f"{where}.estimator.ratio", "the sampler's log-prob is known for the sampled action alone; its support is sampled"
        )
    if cut := "top_p < 1" if sampling.get("top_p", 1.0) < 1 else "top_k > 0" if sampling.get("top_k") else "":
        raise UserError(
            f"{where}.estimator.ratio", f"with {cut} the sampler is another distribution than the policy: no ratio to it"
        )
    if sampling.get("temperature", 1.0) == 0:
        raise UserError(f"{where}.estimator.ratio", "a greedy sampler (temperature 0) has no importance ratio")


def _check_teacher(options: dict, where: str, whom: str, asked: Asks, teachers: Mapping[str, Answer]) -> None:
    own = whom == options["against"]
    found = SAMPLER if whom == "sampler" else teachers.get(whom)
    if found is None and whom == "reference":
        raise UserError(
            f"{where}.against", "this term is against a reference, and the node names none: reference: <model node>"
        )
    if found is None and not (teachers.keys() - {"reference"}):
        raise UserError(where, "this method asks a teacher, and there is none")
    if found is None:
        raise UserError(
            f"{where}.against" if own else where,
            f"this term asks '{whom}'; the node's teachers are {', '.join(sorted(teachers))}",
        )
    beyond_its_words = (found == SAMPLER and asked.topk) or (found == HIDDEN and asked.sampled)
    if (asked.full and not found.full) or (asked.hidden and not found.hidden) or beyond_its_words:
        who = _asking_all(options) if own else f"a part of this term (asking '{whom}')"
        raise UserError(where, found.refusal.format(who=who))
    if not found.full and asked.topk > found.topk:
        raise UserError(
            f"{where}.support.k", f"asks for the teacher's top {asked.topk}; the scores table stores its top {found.topk}"
        )


def _asking_all(options: dict) -> str:
    if _core_need(options) == "full":
        return f"the support {options['support']['name']}"
    if _constant(options, "baseline", "TEACHER") == "full":
        return f"the baseline {options['baseline']['name']}"
    if _constant(options, "target", "TEACHER") == "full":
        return f"the target {options['target']['name']}"
    return "a weight or transform of this method"
