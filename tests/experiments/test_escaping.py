# SPDX-License-Identifier: Apache-2.0
"""What names and notes hold reaches the report as text, whatever it is; the tables too."""

import dataclasses
import random
from html.parser import HTMLParser

import numpy as np
import pytest

from experiments.ledger.tables import collate
from experiments.report.build import gather
from experiments.report.fits.analysis import Analysis
from experiments.report.page.page import page
from experiments.report.totals import energy, utilisation
from scaling.tables.loss_curves import LossCurve
from scaling.tables.read_tables import read_curves, read_runs

PARTS = (
    *("<script>alert(1)</script>", "</td></tr></table>", "<img src=x onerror=alert(1)>", "<!--"),
    *("</script><img src=x onerror=alert(1)>", "<script><!--", "</ScRiPt >"),
    *('" onmouseover="alert(1)', "' onfocus='alert(1)' autofocus='", "--><svg/onload=alert(1)>"),
    *("</title><script>", "</style>", "<b", "&lt;i&gt;", "&#60;u&#62;", "&amp;", "javascript:x"),
    *(
        "{{ 7 * 7 }}",
        "{% include '/etc/passwd' %}",
        "${7*7}",
        "]]>",
        "<![CDATA[",
        "\\u003cb\\u003e",
    ),
    *('{"a": NaN}', '{"a": 1, "a": 2}', "=cmd|' /C calc'!A0", "\x00", "\x1b[31m", "\r", "\n", "\t"),
    *(
        "\u2028",
        "\u202e",
        "<\u0130>",
        "\ufeff",
        "'; DROP TABLE runs; --",
        "$\\frac{",
        "\\",
        "%s",
        "a,b",
    ),
)


def payloads(n: int, seed: int = 0) -> list[str]:
    """Different texts, every part in at least one of them."""
    rng = random.Random(seed)
    longer = ("".join(rng.choices(PARTS, k=rng.randrange(1, 5))) for _ in range(n - len(PARTS)))
    return [f"{text} p{i}" for i, text in enumerate((*PARTS, *longer))]


class Skeleton(HTMLParser):
    """The tags of a page with their attributes, its comments, and its words."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.shape: list = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.shape.append((tag, tuple(attrs)))

    def handle_endtag(self, tag):
        self.shape.append(f"/{tag}")

    def handle_comment(self, data):
        self.shape.append("comment")

    def handle_decl(self, decl):
        self.shape.append(("!", decl))

    def handle_pi(self, data):
        self.shape.append("?")

    def unknown_decl(self, data):
        self.shape.append("![")

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


@pytest.fixture
def written(ledger, study, points, make_manifest, record):
    """The page of a study whose every free text comes from a list, texts used up in turn."""

    def write(texts: list[str]) -> str:
        left = iter(texts)
        recipe = dataclasses.replace(study.recipe, name=next(left))
        changed = dataclasses.replace(study, question=next(left), recipe=recipe)
        ledger.write_plan("{}", points)
        for i, point in enumerate(points):
            made = record(
                None if i % 2 else 2.5,
                status="diverged" if i % 2 else "ok",
                reason=next(left),
                notes=(next(left),),
                provenance={name: next(left) for name in ("host", "device", "xla_flags")},
                costs={"joules": 1.0, "joules_source": next(left)},
            )
            ledger.write_result(point.id, made)
        collate(ledger, points)
        rest = list(left)
        third = len(rest) // 3
        runs = read_runs(ledger.table, flops=study.flops, params="total")
        curves = read_curves(ledger.curves, flops=study.flops)
        at = {"budget": 1e9, "n_params": 1e4}
        curve = LossCurve(
            at=at, values=np.array([1.0]), losses=np.array([2.0]), errors=np.array([0.1])
        )
        analysis = Analysis(
            of="",
            best=None,
            sweeps={rest[0]: [curve]},
            runs=runs, curves=curves, fits={}, frontiers={}, agreement=None,
            findings=tuple(rest[third : 2 * third]),
            refusals={text: text for text in rest[2 * third :]},
        )  # fmt: skip
        made = gather(ledger, points, analysis, "byte")
        manifest = make_manifest(notes=tuple(rest[:third]))
        return page(changed, manifest, points, made, {"surface": ("PHN2Zy8+", "all runs used.")})

    return write


def one_line(text: str) -> str:
    return " ".join(text.split())


def printable(text: str) -> str:
    """As a cell of a table holds it."""
    return "".join(c if c.isprintable() else " " for c in text)


def test_a_thousand_payloads_are_text_and_make_no_tag_attribute_or_script(
    written, ledger, monkeypatch, record_property
):
    texts = payloads(1000)
    record_property("payloads", len(texts))
    attacked = Skeleton(written(texts))
    for path in (ledger.folder / "runs").glob("*/result.json"):
        path.unlink()
    harmless = Skeleton(written([f"word p{i}" for i in range(1000)]))
    assert attacked.shape == harmless.shape
    assert len(attacked.shape) > 2000
    assert not [tag for tag in attacked.shape if tag[0] in ("iframe", "svg", "a")]
    # Two of data and two of code.
    assert len([tag for tag in attacked.shape if tag[0] == "script"]) == 4
    seen, expected, n_seen = attacked.text, f"{harmless.text} ", 0
    for i, text in enumerate(texts):
        # Notes of single runs stay with their results; everything else is on the page, as it was.
        if f"word p{i} " in expected:
            n_seen += 1
            assert one_line(text) in seen or one_line(printable(text)) in seen, text
    assert n_seen > 950


def test_tables_survive_whatever_a_reason_holds(ledger, points, record):
    ledger.write_plan("{}", points)
    texts = payloads(200)
    for start in range(0, len(texts), len(points)):
        batch = texts[start : start + len(points)]
        for point, text in zip(points, batch, strict=False):
            made = record(None, status="diverged", reason=text)
            path = ledger.folder / "runs" / point.id / "result.json"
            path.unlink(missing_ok=True)
            ledger.write_result(point.id, made)
            assert ledger.read_result(point.id) == made
        collate(ledger, points)
        runs = read_runs(ledger.table)
        assert list(runs.run_id) == [point.id for point in points]
        for reason, text in zip(runs.extra["reason"], batch, strict=False):
            assert one_line(str(reason)) == one_line(printable(text))


def test_the_energy_of_each_source_is_a_line_of_its_own(record):
    told = (*((3600.0, "rapl"), (7200.0, "estimate: 8 W per core"), (1800.0, "rapl")), (None, ""))
    costs = [record(costs={"joules": j, "joules_source": source}).costs for j, source in told]
    assert energy(costs) == [
        ("energy, rapl", "1.50 Wh"),
        ("energy, estimate: 8 W per core", "2.00 Wh"),
    ]


def test_utilisation_is_the_median_over_the_runs_that_have_one(record):
    shares = (0.1, 0.4, 0.2, None)
    costs = [record(costs={"mfu_matmul_full": share}).costs for share in shares]
    assert utilisation(costs) == [("MFU (matmul_full), median", "20.0% (10.0% to 40.0%)")]
