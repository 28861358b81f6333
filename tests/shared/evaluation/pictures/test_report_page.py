"""The page of a run: whole in itself, in valid HTML, with nothing a name could break."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest

from shared.evaluation.evaluator import Drawing
from shared.evaluation.pictures import save_pictures
from shared.evaluation.pictures.figures import titled_figure
from shared.evaluation.pictures.kinds import Kind, OwnPictures
from shared.evaluation.results import report_page
from shared.evaluation.results.report_page import Report, save_index, save_page

VOID = {"meta", "img", "br", "hr", "link", "input"}
EVIL = "<script>alert('x')</script>"


class Page(HTMLParser):
    """Tags with their attributes, and the text; every tag that opens has to close in its place."""

    def __init__(self, path):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def attributes(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def made_page(folder, evaluation, pictures=(), **options):
    path = folder / "report.html"
    save_page(path, evaluation, pictures, **options)
    page = Page(path)
    assert not page.attributes("script")
    for _, attributes in page.tags:
        for name in ("src", "href"):
            assert not re.match(r"(?i)\s*(https?:|//|javascript:)", attributes.get(name) or "")
    assert path.stat().st_size < 5_000_000
    assert "NaN" not in page.text
    assert "None" not in page.text
    return page


@pytest.fixture(name="whole", scope="module")
def whole_fixture(make_set, make_evaluation, tmp_path_factory):
    """An evaluation, its folder and pictures."""
    folder, evaluation = tmp_path_factory.mktemp("run"), make_evaluation(make_set())
    return folder, evaluation, save_pictures(folder / "pictures", evaluation)


def test_a_page_holds_results_pictures_and_how_to_make_it_again(whole):
    folder, evaluation, pictures = whole
    (folder / "outliers.csv").write_text("id\n")
    page = made_page(folder, evaluation, pictures, command="zoo eval model=a && b")
    assert "nobody on made_up" in page.text
    assert "synthetic data" in page.text
    assert "zoo eval model=a && b" in page.text
    assert "missing: the model has no <text> encoder" in page.text
    for result in evaluation.results:
        if result.value is not None:
            assert f"{result.value:.3f}" in page.text or f"{result.value:.1f}" in page.text
    for finding in evaluation.hygiene.findings:
        assert finding.text in page.text
    for fact in ("0123", evaluation.embeddings.split_fingerprint, "numpy"):
        assert fact in page.text
    names = sorted(path.name for path in pictures)
    images = page.attributes("img")
    assert sorted(image["alt"].split(": ")[1] for image in images) == names
    first = base64.b64decode(images[0]["src"].removeprefix("data:image/png;base64,"))
    assert first in {path.read_bytes() for path in pictures}
    links = [link["href"] for link in page.attributes("a")]
    assert "outliers.csv" in links
    assert "pictures/recall.png" in links
    anchors = {attributes.get("id") for _, attributes in page.tags}
    assert {link[1:] for link in links if link.startswith("#")} <= anchors


def test_a_page_can_be_read_on_a_phone(whole, tmp_path):
    page = made_page(tmp_path, whole[1])
    meta = {
        attributes.get("name"): attributes.get("content") for attributes in page.attributes("meta")
    }
    assert meta["viewport"] == "width=device-width, initial-scale=1"
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    assert text.count("<table>") == text.count('<div class="scroll"><table>')


def test_a_page_says_which_rows_were_judged(whole, tmp_path):
    assert "Of the test split." in made_page(tmp_path, whole[1]).text
    folds = replace(whole[1].runs[0], settings={**whole[1].runs[0].settings, "folds": 5})
    page = made_page(tmp_path, replace(whole[1], runs=(folds,)))
    assert "Of all samples, 5 folds." in page.text


def test_names_are_nobodys_markup(make_set, make_evaluation, tmp_path):
    made = make_set(
        classes=(EVIL, "a&b", '"quoted"', "plain"),
        dataset=EVIL,
        model=f"{EVIL} & more",
        subgroups={EVIL: np.array([EVIL, "B"])[np.arange(240) % 2]},
        targets={EVIL: np.arange(240.0)},
        tags={EVIL: np.arange(240.0) % 2, '"': np.arange(240.0) // 2 % 2},
    )
    page = made_page(tmp_path, make_evaluation(made), command=EVIL)
    assert page.text.count(EVIL) > 5
    assert f"{EVIL} & more on {EVIL}" in page.text


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": np.full(240, -1), "classes": ()},
        {"labels": np.full(240, -1), "classes": (), "widths": (4,)},
        {"tags": {"a": np.arange(240.0) % 2}, "widths": (4,)},
        {"targets": {"a": np.arange(240.0)}, "widths": (4,)},
        {"n": 5, "n_classes": 2},
    ],
    ids=["retrieval only", "nothing but vectors", "tags", "values", "five rows"],
)
def test_pages_of_little(make_set, make_evaluation, tmp_path, changes):
    page = made_page(tmp_path, make_evaluation(make_set(**changes)))
    assert "Results" in page.text


def test_a_page_without_runs_or_pictures(make_set, make_evaluation, tmp_path):
    evaluation = make_evaluation(make_set(synthetic=False), runs=())
    save_page(tmp_path / "report.html", evaluation)
    page = Page(tmp_path / "report.html")
    assert "No protocol was run" in page.text
    assert "synthetic" not in page.text


def test_pictures_beyond_the_limit_are_linked(whole, monkeypatch):
    folder, evaluation, pictures = whole
    monkeypatch.setattr(report_page, "MAX_BYTES", 60_000)
    page = made_page(folder, evaluation, pictures)
    assert 0 < len(page.attributes("img")) < len(pictures)
    assert (folder / "report.html").stat().st_size < 150_000
    assert "Left out to keep this page small" in page.text


def test_the_page_of_a_sweep_links_each_run(whole, tmp_path):
    results = whole[1].results
    other = [replace(result, model=EVIL) for result in results]
    reports = [
        Report("first", "a b/report.html", results),
        Report(EVIL, "", other),
        Report("third", "", failed="no such file <x>"),
    ]
    save_index(tmp_path / "index.html", reports, title=f"sweep {EVIL}")
    page = Page(tmp_path / "index.html")
    assert "a%20b/report.html" in {link["href"] for link in page.attributes("a")}
    assert "no such file <x>" in page.text
    assert not page.attributes("script")
    assert page.text.count("few_shot, m0, shots=2: accuracy") == 1


def test_a_protocol_may_draw_pictures_of_its_own(whole, tmp_path):
    def draw(run, embeddings, dataset):
        yield f"maps_{run.task.inputs}", titled_figure(2, 2, "mine", dataset.name)

    own = OwnPictures(Kind("maps", "Maps of mine", "A map is read from left to right."), draw)
    evaluation = whole[1]
    (run, *others) = evaluation.runs
    protocol = replace(run.protocol, name="mine", pictures=own)
    evaluation = replace(
        evaluation,
        runs=(replace(run, protocol=protocol), *others),
        drawing=Drawing(dataset=SimpleNamespace(name="made_up", schemas={})),
    )
    pictures = save_pictures(tmp_path / "pictures", evaluation)
    assert tmp_path / f"pictures/maps_{run.task.inputs}.png" in pictures
    page = made_page(tmp_path, evaluation, pictures)
    assert "A map is read from left to right." in page.text
    assert page.text.index("Maps of mine") < page.text.index("Map of the embeddings")
