from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shared.data.dataset import Dataset, SampleTable
from shared.errors import SchemaError
from shared.evaluation import galleries
from shared.evaluation.evaluator import Drawing
from shared.evaluation.galleries import BOX, draw_all, place_boxes
from shared.evaluation.outliers import find_outliers
from shared.schema import Channel, Schema


class Samples(Dataset):
    """The rows of a set of embeddings; the raw input of each is its own vector."""

    name = "made_up"

    def __init__(self, embeddings):
        self.embeddings, self.read_rows = embeddings, []
        self.schemas = {
            m: Schema(m, ("channel",), tuple(map(Channel, "abcdefgh"[: v.shape[1]])))
            for m, v in embeddings.vectors.items()
        }

    def make_table(self):
        return SampleTable(self.embeddings.ids.tolist())

    def read(self, index):
        self.read_rows.append(index)
        made = self.embeddings
        return {m: made.vectors[m][index] for m in made.modalities if made.present[m][index]}

    def content_fingerprint(self):
        return ""


def line(axes, schemas, raw):
    axes.plot(raw["m0"])
    axes.set_xlabel("channel")


def refuse(axes, schemas, raw):
    raise SchemaError("no channels")


def gallery(embeddings, **thumbnails):
    drawing = Drawing(dataset=Samples(embeddings), thumbnails=thumbnails)
    return draw_all(embeddings, drawing, find_outliers(embeddings))


def titles(figure):
    return [axes.get_title() for axes in figure.axes]


def test_one_gallery_a_modality_and_only_what_is_drawn_is_read(make_set):
    made = make_set(n=600)
    samples = Samples(made)
    figures = draw_all(made, Drawing(dataset=samples, thumbnails={"m0": line}), find_outliers(made))
    assert list(figures) == [
        "thumbnails_map",
        "similarity_m0",
        "outliers_m0",
        "similarity_m1",
        "outliers_m1",
    ]
    assert len(set(samples.read_rows)) < 100
    # m1 cannot be drawn: its neighbours are shown by m0, and the title says so
    assert "by m1; drawn: m0" in figures["similarity_m1"].get_suptitle()
    assert "synthetic data" in figures["similarity_m0"].get_suptitle()
    for name in ("similarity_m0", "similarity_m1"):
        assert len(figures[name].axes) == galleries.QUERIES * galleries.COLUMNS
        queries = titles(figures[name])[:: galleries.COLUMNS]
        assert len({q.split("\n")[0] for q in queries}) == galleries.QUERIES
    shared = [titles(figures[f"similarity_{m}"])[:: galleries.COLUMNS] for m in ("m0", "m1")]
    assert shared[0] == shared[1]


def test_the_marks_say_whether_the_class_is_the_same(make_set):
    made = make_set(n=300, noise=0.1)
    for title in titles(gallery(made, m0=line)["similarity_m0"]):
        name = title.split("\n")[1]
        label = made.classes[made.labels[made.ids.tolist().index(name)]]
        assert label in title
    wrong = replace(made, labels=np.where(np.arange(300) % 2, made.labels, -1))
    marks = [t[:2] for t in titles(gallery(wrong, m0=line)["similarity_m0"])]
    assert "un" in marks  # unknown beside a known query has neither mark


def test_nothing_is_drawn_without_samples_or_drawings(make_set):
    made = make_set()
    assert draw_all(made, Drawing(), None) == {}
    assert gallery(made) == {}
    assert gallery(made, other=line) == {}


def test_samples_that_cannot_be_drawn_say_so(make_set):
    made = make_set(n=120, absent=0.5)
    figures = gallery(made, m0=refuse)
    words = {t.get_text() for axes in figures["outliers_m0"].axes for t in axes.texts}
    assert words == {"m0: no channels to draw"}
    figures = gallery(made.select(["m0"]), m1=line)
    assert figures == {}
    hidden = replace(made, present={**made.present, "m0": np.arange(120) % 2 == 0})
    words = {
        t.get_text() for axes in gallery(hidden, m0=line)["outliers_m1"].axes for t in axes.texts
    }
    assert words == {"no m0"}


def test_unlabelled_and_single_modalities(make_set):
    unlabelled = make_set(labels=np.full(240, -1), classes=(), widths=(4,))
    assert list(gallery(unlabelled, m0=line)) == ["thumbnails_map", "similarity_m0"]
    different = gallery(make_set(widths=(8, 5)), m0=line)
    assert "(m0; n" in different["thumbnails_map"].get_suptitle()
    for n in (1, 2, 12):
        for figure in gallery(make_set(n=n), m0=line).values():
            figure.savefig("/dev/null", format="png")


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(1, 40), st.just(2)), elements=st.floats(0, 1)),
    st.integers(1, 8),
)
def test_boxes_stay_apart_and_inside(points, n_classes):
    placed = place_boxes(points, np.arange(len(points)) % n_classes - 1, 12)
    assert len({i for i, _ in placed}) == len(placed) <= 12
    for j, (i, (x, y)) in enumerate(placed):
        assert 0 <= x <= 1 - BOX[0]
        assert 0 <= y <= 1 - BOX[1]
        near = np.clip(points[i], (x, y), np.add((x, y), BOX))
        assert 0 < np.abs(near - points[i]).max() < 0.05
        for _, (other_x, other_y) in placed[:j]:
            assert abs(x - other_x) >= BOX[0] or abs(y - other_y) >= BOX[1]
        covered = (points[[j for j, _ in placed]] >= (x, y)).all(axis=1)
        covered &= (points[[j for j, _ in placed]] <= np.add((x, y), BOX)).all(axis=1)
        assert not covered.any()


def test_every_class_has_a_box_where_there_is_room():
    labels = np.repeat(np.arange(5), 10)
    points = 0.2 + 0.6 * np.random.default_rng(0).random((50, 2)) * 0.1 + 0.12 * labels[:, None]
    placed = place_boxes(points, labels, 5)
    assert sorted(labels[[i for i, _ in placed]].tolist()) == [0, 1, 2, 3, 4]
    assert len(place_boxes(np.full((3, 2), 0.5), np.full(3, -1), 9)) == 1
