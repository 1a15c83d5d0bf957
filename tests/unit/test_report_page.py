"""The pages: complete, equal bytes for equal results, readable without a network, plain about few seeds."""

from __future__ import annotations

import html
import json
import math
import os
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from opd_steps.errors import UserError
from opd_steps.findings.judge import judge
from opd_steps.findings.results import Plan
from opd_steps.findings.variants import differences, flatten
from opd_steps.report import comparison
from opd_steps.report.axes import ticks
from opd_steps.report.curves import POINTS, gaps, series, standalone
from opd_steps.report.dag import HEIGHT, Box, draw
from opd_steps.report.samples import samples
from opd_steps.report.scatter import Point, pareto, scatter
from opd_steps.report.site import render
from opd_steps.steps.report import run
from opd_steps.store.artifacts import sealed
from opd_steps.store.files import write_json
from opd_steps.store.views import other_pages
from tests.unit.fake_results import DIRECTIONS, FakeResults, with_figure

TEMPLATE = Path(__file__).parents[2] / "workflow" / "report"
VOID = {"meta", "br", "input"}


class Tags(HTMLParser):
    """Fails on a tag that closes another one; collects ids and links."""

    def __init__(self, page: str):
        super().__init__()
        self.open, self.ids, self.links = [], [], []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.links += [attrs["href"]] if "href" in attrs else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert tag == self.open.pop()


@pytest.fixture(scope="module")
def fake(tmp_path_factory):
    return FakeResults(tmp_path_factory.mktemp("report"))


def build(fake: FakeResults, out: Path, template: Path = TEMPLATE) -> str:
    """All pages, the way in first."""
    run(fake.plan_file, fake.root, template, out)
    return "".join(path.read_text() for path in [out, *sorted(out.parent.glob("papers/*.html"))])


def text_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", re.sub(r"<(style|script).*?</\1>", "", page, flags=re.S)).split())


def test_pages_are_whole_and_offline(fake, tmp_path):
    page = build(fake, tmp_path / "index.html")
    folder = tmp_path
    pages = {path.relative_to(folder): path.read_text() for path in folder.rglob("*.html")}
    assert set(map(str, pages)) == {"index.html", "papers/quickstart.html", "papers/vopd.html"}
    tags = {name: Tags(text) for name, text in pages.items()}
    away = []
    for name, found in tags.items():
        assert len(set(found.ids)) == len(found.ids)
        for link in found.links:
            file, _, place = link.partition("#")
            target = Path(os.path.relpath((folder / name).parent / file, folder)) if file else name
            away += [link] if "://" in link else []
            assert "://" in link or not place or place in tags[target].ids, link
    assert set(away) == {"https://arxiv.org/abs/2605.07865"}
    own = re.sub(r'src="(\.\./)?mlflow\.js"', "", page)  # tracking puts it beside
    assert not re.search(r"<link|@import|url\(|src=|fetch\(|import\(", own)
    verdicts = [c["direction"]["verdict"] for c in json.loads((tmp_path / "claims.json").read_text())["claims"]]
    counts = Counter(verdicts)
    in_matrix = re.findall(r'<a class="badge claim ([\w-]+)" href="papers/\w+.html#claim-\w+"', pages[Path("index.html")])
    assert Counter(in_matrix) == Counter({name.replace(" ", "-"): n for name, n in counts.items()})  # one a claim
    for name, n in counts.items():
        assert f"{n} {name}" in text_of(pages[Path("index.html")])  # and their count at the top
    assert set(verdicts) == {"holds", "does not hold", "not enough evidence", "not testable here", "not measured"}
    for text in (
        "tiny model, built-in arithmetic",
        "+2.1 points",
        "unequal steps: 60 against 80; as in the paper",
        "unequal lr: 1 against 2; the paper",
    ):
        assert text in page
    assert "One seed" not in page


def test_every_cell_says_where_it_comes_from(fake, tmp_path):
    page = build(fake, tmp_path / "index.html")
    for path, fingerprint in fake.fingerprints.items():
        assert f"<code>{path}</code>" in page and f'title="{fingerprint}"' in page
    cell = re.search(r'<td class="num best" title="vopd, test/accuracy\n([^"]*)">0\.\d{3}<br><small>± 0\.\d{3}</small>', page)
    assert len(cell[1].splitlines()) == 5
    assert fake.fingerprints["vopd/evaluate/vopd/seed4"][:12] in page and "commit 0123456789+" in page


@pytest.mark.parametrize(("way", "best"), [("up", max), ("down", min), ("", None)])
def test_the_best_is_the_one_that_the_metric_calls_better(fake, tmp_path, way, best):
    """The plan says it of metrics of suites and verifiers."""
    metric = "test/accuracy"
    for paper in fake.plan["papers"].values():
        for node in paper["nodes"].values():
            if node["kind"] == "evaluate":
                node["directions"] = {metric: way}
    fake.write_plan()
    plan = Plan.read(fake.plan_file, fake.root)
    cells = {row.name: row.cells[0] for row in comparison.rows(plan, "vopd", [metric]) if row.kind == "opd"}
    assert len(cells) > 1
    wanted = best(cell.mean for cell in cells.values()) if best else None
    assert [name for name, cell in cells.items() if cell.best] == [n for n, cell in cells.items() if cell.mean == wanted]


def test_same_results_same_bytes(fake, tmp_path):
    for name in "ab":
        build(fake, tmp_path / name / "index.html")
    for file in ("index.html", "papers/quickstart.html", "papers/vopd.html", "claims.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    claims = json.loads((tmp_path / "a" / "claims.json").read_text(), parse_constant=pytest.fail)
    assert claims["scale"] == "tiny" and len(claims["claims"]) == 8


def test_one_seed_is_said_plainly(tmp_path):
    page = build(FakeResults(tmp_path, seeds=(0,)), tmp_path / "index.html")
    assert "One seed: no interval, claims cannot be judged" in page
    assert "± 0.031 s.e." in page and 'class="badge holds"' not in page
    few = build(FakeResults(tmp_path / "few", seeds=(0, 1, 2)), tmp_path / "few/index.html")
    assert "3 seeds: intervals are shown, but a claim is judged from 5 seeds on." in few


def test_one_seed_says_what_it_can_of_these_checkpoints(tmp_path):
    page = build(FakeResults(tmp_path, seeds=(0,)), tmp_path / "index.html")
    text = text_of(page)
    assert "Pairs of checkpoints 3 as claimed 1 the other way" in text  # untestable claims aside
    row = re.search(r"helps distillation.*?half reward", text).group(0)
    assert re.search(r"not enough evidence 1 seed; a claim needs at least 5 left is higher \[0\.\d+, 0\.\d+\]", row)
    assert "another seed may come out the other way" in text and "claims of this run are tested" not in text
    assert re.search(r'title="seed 0: 0\.\d+ \[0\.\d+, 0\.\d+\], 300 prompts"', page)


def test_several_seeds_are_counted_and_chance_is_said(fake, tmp_path):
    page = build(fake, tmp_path / "index.html")
    text = text_of(page)
    assert "left is higher 5 of 5 seeds" in text
    assert "6 claims of this run are tested and 5 of them decided." in text and "about 0.3 would be decided by chance" in text
    assert "2 tested, 2 decided (about 0.1 would be by chance alone), 2 ✓ survive" in text
    claims = json.loads((tmp_path / "claims.json").read_text())
    assert claims["chance"] == {"tested": 6, "decided": 5, "by_chance": 0.3, "survive": 5}
    assert len(re.findall(r"<small>[^<]* ✓</small>", page)) == sum(claim["survives"] for claim in claims["claims"]) == 5
    assert "not whether the method is better" in claims["these_checkpoints"]


def test_what_claims_require_has_a_table(fake, tmp_path):
    page = build(fake, tmp_path / "index.html")
    table = re.search(r'<table class="requires">.*?</table>', page, re.S).group(0)
    rows = [text_of(row) for row in re.findall(r"<tr>.*?</tr>", table, re.S)][1:]
    assert len(rows) == 2 and page.count('class="requires"') == 1
    assert re.fullmatch(
        r"behind there is something to learn teacher\.\S+ > student_sft\.\S+ 0\.82\d 0\.4\d* met", html.unescape(rows[0])
    )
    assert re.fullmatch(
        r"weak a student that knows it all student_sft\.\S+ > 0\.9 0\.4\d* 0\.9 not met", html.unescape(rows[1])
    )
    text = text_of(page)
    assert "needs student_sft.test/accuracy &gt; 0.9, found 0.41" in text and "requires behind, weak" in text


def test_text_is_escaped(fake, tmp_path):
    fake.plan["papers"]["vopd"]["title"] = "a <b> & co"
    (tmp_path / "plan.json").write_text(json.dumps(fake.plan))
    run(tmp_path / "plan.json", fake.root, TEMPLATE, tmp_path / "index.html")
    for page in ("index.html", "papers/vopd.html"):
        assert "a &lt;b&gt; &amp; co" in (tmp_path / page).read_text()


def test_broken_template_is_one_line(fake, tmp_path):
    shutil.copytree(TEMPLATE, tmp_path / "t")
    (tmp_path / "t" / "index.html.j2").write_text("\n{{ nothing.here }}")
    with pytest.raises(UserError, match="'nothing' is undefined"):
        build(fake, tmp_path / "index.html", tmp_path / "t")
    (tmp_path / "t" / "captions.yaml").write_text("page: {title")
    with pytest.raises(UserError, match="cannot build the report"):
        build(fake, tmp_path / "index.html", tmp_path / "t")
    with pytest.raises(UserError, match="cannot read the plan"):
        run(tmp_path / "none.json", fake.root, TEMPLATE, tmp_path / "index.html")


def test_boxes_of_a_layer_never_overlap():
    root = Box("root", "data")
    middle = [Box(f"n{i}", "sft", parents=[("student", root)]) for i in range(9)]
    leaves = [Box(f"m{i}", "opd", parents=[("student", middle[i % 4]), ("teacher", root)]) for i in range(14)]
    assert Tags(draw([root, *middle, *leaves]))
    for layer in (middle, leaves):
        ys = sorted(b.y for b in layer)
        assert min(b - a for a, b in pairwise(ys)) >= HEIGHT + 2
    assert root.x + root.width < middle[0].x and max(b.x + b.width for b in middle) < min(b.x for b in leaves)


def test_curves_keep_mean_and_range_and_stay_small():
    runs = [[{"step": k, "train/loss": k + seed} for k in range(1, 1001)] for seed in (0.0, 2.0)]
    line = series("v", "train/loss", runs)
    assert len(line.steps) <= POINTS and line.seeds == 2
    assert all(
        low + 2 == pytest.approx(high) == pytest.approx(mean + 1)
        for low, high, mean in zip(line.low, line.high, line.mean, strict=True)
    )
    assert series("v", "train/none", runs) is None
    assert Tags(standalone(runs[0], "a < b"))
    assert ticks(0, 1, 5) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])


def test_gaps_of_a_curve():
    row = lambda step, **more: {"step": step, "train/skipped": 0.0, "loss": 1.0} | more
    skip = lambda step: {"step": step, "train/skipped": 1.0, "reward": 1.0}
    rows = [row(1), skip(2), skip(3), row(4), row(5, variance=1.0), skip(6), row(7, loss=math.nan), row(8)]
    assert gaps("loss", rows) == "no value at steps 2-3, 6-7"
    assert gaps("variance", rows) == ""  # not drawn at every step
    assert gaps("reward", rows) == gaps("train/skipped", rows) == ""
    assert gaps("loss", rows[2:4]) == "no value at step 3"
    found = series("a", "loss", [rows])
    assert found.steps == [1, 4, 5, 8] and found.mean == [1.0] * 4
    assert series("a", "loss", [[row(1, loss=math.inf)]]) is None
    picture = standalone([*rows, row(9, only=math.nan)], "run")
    assert "loss (no value at steps 2-3, 6-7)" in picture and "only (no value at step 9)" in picture
    assert not re.search(r"[0-9,=\"]nan", picture)


def test_page_says_where_figures_are_none(tmp_path):
    fake = FakeResults(tmp_path)
    plan = Plan.read(fake.plan_file, fake.root)
    with_figure(plan, "vopd/evaluate/vopd/seed1", "test/avg_at_k", math.nan)
    with_figure(plan, "vopd/evaluate/topk/seed1", "test/pass_at_k", None)
    curve = fake.root / "vopd/opd/vopd/seed1/metrics.jsonl"
    rows = [json.loads(line) for line in curve.read_text().splitlines()]
    rows[4]["train/entropy"] = math.nan
    curve.write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = render(plan, judge(plan), TEMPLATE)["papers/vopd.html"]
    Tags(page)
    assert "vopd seed 1: no value at step 5" in page
    assert ">not finite</td>" in page and "seed 1: nan " in page
    assert "(4 of 5 seeds)" in page
    assert "vopd/evaluate/vopd/seed1: test/avg_at_k is nan" in page
    assert not re.search(r'(points|[xy]\d?)="[^"]*nan', page)


def test_what_tells_variants_apart():
    plain = {"method": {"baseline": {"name": "none"}, "weight": []}, "seed": None}
    vopd = {"method": {"baseline": {"name": "neg_kl"}, "weight": [{"name": "clip"}]}, "seed": 3}
    assert differences({"opd": plain, "vopd": vopd}) == {"opd": [], "vopd": ["baseline=neg_kl", "weight.0=clip"]}
    assert flatten({"a": {"b": [1, 2]}, "c": None, "d": "x", "e": {}}) == {"a.b": "[1, 2]", "c": "null", "d": "x", "e": "{}"}


def test_analyses_have_a_table(fake, tmp_path):
    page = build(fake, tmp_path / "index.html")
    table = re.search(r'<table class="analyses">.*?</table>', page, re.S).group(0)
    cells = [text_of(cell) for cell in re.findall(r"<t[dh][^>]*>.*?</t[dh]>", table.partition("<tbody>")[2], re.S)]
    assert cells[0].split() == ["moved", "update", "model=vopd", "other=student_sft"]
    assert cells[1] == "update/norm" and re.fullmatch(r"2\.\d{3} ± 0\.\d{3}", cells[2]) and cells[3] == "5"
    assert cells[4:] == ["update/sparsity_rel1e-3", "0.250 ± 0.000", "5"]
    assert "vopd/analyze/moved/seed3" in table  # where the value comes from


def test_a_part_is_named_as_papers_name_it(tmp_path):
    """The evaluation of a part is a row of its own, whose links and cost are its node's."""
    fake = FakeResults(tmp_path)
    for file in fake.root.glob("vopd/evaluate/topk/seed*/manifest.json"):
        manifest = json.loads(file.read_text())
        manifest["config"]["parents"]["model"] = f"vopd/opd/vopd/{file.parent.name}:b"
        del manifest["sha256"]
        write_json(file, sealed(manifest))
    plan = json.loads(fake.plan_file.read_text())
    plan["papers"]["vopd"]["nodes"]["evaluate/topk"]["parents"]["model"] = "vopd/opd/vopd:b"
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    run(tmp_path / "plan.json", fake.root, TEMPLATE, tmp_path / "index.html")
    page = (tmp_path / "papers/vopd.html").read_text()
    Tags(page)
    assert '<a href="#vopd-opd-vopd"><b>vopd:b</b></a>' in page and 'title="vopd:b, test/accuracy\n' in page


def test_an_evaluation_with_a_name_of_its_own_is_a_row_of_its_own(tmp_path):
    """Also in the charts: two evaluations of one model are two rows and two lines."""
    fake = FakeResults(tmp_path)
    again = fake._node("vopd", "evaluate", "again", model="vopd", data="sums")
    fake.nodes[again]["directions"] = DIRECTIONS
    fake.plan["papers"]["vopd"] = fake._paper("vopd")
    fake.publish(again)
    fake.write_plan()
    run(fake.plan_file, fake.root, TEMPLATE, tmp_path / "index.html")
    page = (tmp_path / "papers/vopd.html").read_text()
    (chart,) = (part for part in re.findall(r"<svg.*?</svg>", page, re.S) if "Pass@k on test" in part)
    assert {"vopd", "again"} <= set(re.findall(r'data-v="(\w+)"', chart))
    for name in ("vopd", "again"):
        assert f'<a href="#vopd-opd-vopd"><b>{name}</b></a>' in page and f'title="{name}, test/accuracy\n' in page


def test_a_sweep_has_a_table_by_what_its_grid_moves(tmp_path):
    fake = FakeResults(tmp_path)
    for kind in ("opd", "evaluate"):
        fake.nodes[f"vopd/{kind}/vopd"] |= {"family": "vopd", "point": {"optim.lr": 0.002, "method.signal": "rkl"}}
    write_json(fake.plan_file, fake.plan)
    page = build(fake, tmp_path / "index.html")
    (table,) = re.findall(r"<h3>Sweep of vopd</h3>.*?<table class=\"sweep\">(.*?)</table>", page, re.S)
    assert re.findall(r'<th scope="col"><code>(.*?)</code></th>', table) == ["method.signal", "optim.lr"]
    assert re.findall(r"<td><code>(.*?)</code></td>", table) == ["rkl", "0.002"]
    assert "Sweep of" not in build(FakeResults(tmp_path / "other"), tmp_path / "others/index.html")


def test_a_paper_alone_is_one_page(fake, tmp_path):
    build(fake, tmp_path / "index.html")
    plan = json.loads(fake.plan_file.read_text())
    del plan["papers"]["vopd"]
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    run(tmp_path / "plan.json", fake.root, TEMPLATE, tmp_path / "index.html")
    page = (tmp_path / "index.html").read_text()
    Tags(page)
    assert list(tmp_path.rglob("*.html")) == [tmp_path / "index.html"]  # those of the run before are gone
    assert "all 2 papers" not in page and 'id="quickstart-opd-opd"' in page
    pages = json.loads((tmp_path / "claims.json").read_text())["pages"]
    assert set(pages) == {"index.html"} and not other_pages(tmp_path / "claims.json")
    (tmp_path / "index.html").write_text(page[:-20])
    assert other_pages(tmp_path / "claims.json") == f"{tmp_path}/index.html is damaged"


def test_samples_are_of_one_prompt_before_and_after(tmp_path):
    fake = FakeResults(tmp_path, seeds=(0,))
    right = {
        "teacher": "1111",
        "student_sft": "1010",
        "vopd": "1100",
        "topk": "1100",
        "jsd": "1000",
        "opd": "1000",
        "base": "0000",
    }
    for name, marks in right.items():
        (folder,) = fake.root.glob(f"*/evaluate/{name}/seed0")
        rows = [
            {
                "id": f"p{i}",
                "prompt": f"{i}+1=",
                "answer": str(i + 1),
                "greedy": f"{name} {i} <b>",
                "correct": mark == "1",
                "c": i,
            }
            for i, mark in enumerate(marks)
        ]
        (folder / "samples/test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (found,) = samples(Plan.read(fake.plan_file, fake.root), "vopd")
    assert [(p.id, p.change, p.text, p.wanted) for p in found.prompts] == [
        ("p1", "learned", "1+1=", "2"),
        ("p2", "lost", "2+1=", "3"),
        ("p3", "still wrong", "3+1=", "4"),
        ("p0", "right before and after", "0+1=", "1"),
    ]
    lost = found.prompts[1]
    assert [(a.name, a.role, a.right, a.of) for a in lost.answers[:2]] == [
        ("teacher", "teacher", True, "2 of 8"),
        ("student_sft", "before", True, "2 of 8"),
    ]
    after = {a.name: (a.role, a.right) for a in lost.answers[2:]}
    assert after == dict.fromkeys(("vopd", "topk", "jsd", "opd"), ("after", False)) | {"base": ("", False)}
    assert sum(found.counts.values()) == 4


def test_the_pareto_front_and_its_picture():
    point = lambda name, x, y, is_variant=True: Point(name, x, y, 0.1, 0, is_variant)
    points = [point("a", 1, 0.5), point("b", 2, 0.4), point("c", 2, 0.7), point("d", 3, 0.7), point("e", 4, 0.9)]
    assert [p.name for p in pareto(points)] == ["a", "c", "e"]
    picture = scatter([*points, point("free", 0, 1.0, False)], "seconds", "accuracy", front=True)
    Tags(picture)
    assert "on the Pareto front: a, c, e" in picture and picture.count('class="front"') == 1
    assert scatter(points[:1], "seconds", "accuracy") == ""
