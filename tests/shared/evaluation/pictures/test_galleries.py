"""What the galleries show, read back from their axes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shared.data.dataset import Dataset, SampleTable
from shared.data.generic import TEXT
from shared.data.image_files import IMAGE
from shared.errors import SchemaError
from shared.evaluation.embeddings.copies import with_copies
from shared.evaluation.evaluator import Drawing
from shared.evaluation.hygiene.outliers import find_outliers
from shared.evaluation.pictures import galleries
from shared.evaluation.pictures.choice import draw_pictures
from shared.evaluation.pictures.maps import BOX, draw_thumbnails_map, place_boxes
from shared.evaluation.pictures.thumbnails import draw_image, draw_text, make_artist
from shared.evaluation.protocol import Task
from shared.schema import Channel, Schema

GALLERIES = ("thumbnails_map", "retrieval", "similarity", "outliers")


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


@pytest.fixture(name="gallery")
def gallery_fixture(make_evaluation, rank_runs):
    def draw(made, samples=None, **thumbnails):
        drawing = Drawing(dataset=samples or Samples(made), thumbnails=thumbnails)
        ranks = list(rank_runs(made, np.random.default_rng(0)))
        named = draw_pictures(make_evaluation(made, drawing, ranks))
        return {name: figure for name, figure in named if name.startswith(GALLERIES)}

    return draw


def titles(figure):
    return [axes.get_title() for axes in figure.axes]


def test_one_gallery_a_modality_and_only_what_is_drawn_is_read(make_set, gallery):
    made = make_set(n=300)
    samples = Samples(made)
    figures = gallery(made, samples, m0=line)
    assert list(figures) == [
        "thumbnails_map",
        "retrieval_m0_m1",
        "retrieval_m1_m0",
        "similarity_m0",
        "outliers_m0",
        "similarity_m1",
        "outliers_m1",
    ]
    assert len(set(samples.read_rows)) < 120
    # m1 cannot be drawn: its neighbours are shown by m0, and the title says so
    assert "by m1; drawn: m0" in figures["similarity_m1"].get_suptitle().replace("\n", " ")
    assert "synthetic data" in figures["similarity_m0"].get_suptitle()
    each = 1 + galleries.FOUND
    for name in ("similarity_m0", "similarity_m1"):
        assert len(figures[name].axes) == galleries.QUERIES * each
        queries = titles(figures[name])[::each]
        assert len({q.split("\n")[0] for q in queries}) == galleries.QUERIES
    shared = [titles(figures[f"similarity_{m}"])[::each] for m in ("m0", "m1")]
    assert shared[0] == shared[1]


def test_the_marks_say_whether_the_class_is_the_same(make_set, gallery):
    made = make_set(n=300, noise=0.1)
    for title in titles(gallery(made, m0=line)["similarity_m0"]):
        name = title.split("\n")[1]
        label = made.classes[made.labels[made.ids.tolist().index(name)]]
        assert label in title
    wrong = replace(made, labels=np.where(np.arange(300) % 2, made.labels, -1))
    marks = [t[:2] for t in titles(gallery(wrong, m0=line)["similarity_m0"])]
    assert "un" in marks  # unknown beside a known query has neither mark


def test_the_counterpart_of_a_query_is_marked(make_set):
    made = make_set(n=120, absent=0, noise=0.5)
    artist = make_artist(Drawing(dataset=Samples(made), thumbnails={"m0": line}))
    rows = made.rows("test", "m0", "m1")
    ranks = np.ones(len(rows), np.int64)
    same = replace(made, vectors={m: made.vectors["m0"] for m in made.vectors})
    task = Task(("m0", "m1"), inputs="m0->m1")
    figure = galleries.draw_retrieval(same, artist, task, rows, ranks)
    per_query = np.reshape(titles(figure), (galleries.QUERIES, -1))
    assert all("match at rank 1" in title for title in per_query[:, 0])
    assert all("✓" in title for title in per_query[:, 1])
    assert not any("✓" in title for title in per_query[:, 2:].ravel())
    assert galleries.draw_retrieval(same, artist, task, rows[:0], ranks[:0]) is None
    few = galleries.draw_retrieval(same, artist, task, rows[:2], ranks[:2])
    assert len(few.axes) == 2 * (1 + galleries.FOUND)
    of_class = galleries.draw_retrieval(same, artist, task, rows, ranks, "label")
    for query, *found in np.reshape(titles(of_class), (galleries.QUERIES, -1)):
        label = query.removeprefix("query: ").split("\n")[0]
        assert all(("✓" in title) == (label in title) for title in found)


def test_nothing_is_drawn_without_samples_or_drawings(make_set, gallery):
    made = make_set()
    assert make_artist(Drawing()) is None
    assert gallery(made) == {}
    assert gallery(made, other=line) == {}


def test_samples_that_cannot_be_drawn_say_so(make_set, gallery):
    made = make_set(n=120, absent=0.5)
    figures = gallery(made, m0=refuse)
    words = {t.get_text() for axes in figures["outliers_m0"].axes for t in axes.texts}
    assert words == {"m0: no\nchannels to draw"}
    assert gallery(made.select(["m0"]), m1=line) == {}
    hidden = replace(made, present={**made.present, "m0": np.arange(120) % 2 == 0})
    words = {
        t.get_text() for axes in gallery(hidden, m0=line)["outliers_m1"].axes for t in axes.texts
    }
    assert words == {"no m0"}


def test_unlabelled_and_single_modalities(make_set, gallery):
    unlabelled = make_set(labels=np.full(240, -1), classes=(), widths=(4,))
    assert list(gallery(unlabelled, m0=line)) == ["thumbnails_map", "similarity_m0"]
    different = gallery(make_set(widths=(8, 5)), m0=line)
    assert "(m0; n" in different["thumbnails_map"].get_suptitle()


@pytest.mark.parametrize("n", [1, 2, 12])
def test_few_rows_have_small_galleries(make_set, gallery, n):
    for figure in gallery(make_set(n=n, widths=(4,)), m0=line).values():
        figure.savefig("/dev/null", format="png", dpi=30)


def test_images_and_texts_are_drawn_in_every_domain(make_set):
    made = make_set(n=4)
    samples = Samples(made)
    samples.schemas = {"image": IMAGE, "text": TEXT, "graph": made}
    artist = make_artist(Drawing(dataset=samples, thumbnails={"image": refuse}))
    assert set(artist.thumbnails) == {"image", "text"}
    assert artist.thumbnails["image"] is refuse  # a domain's own takes precedence
    assert artist.shown("graph") == "image"


def test_an_image_has_its_colours_and_a_text_its_words():
    from matplotlib.figure import Figure

    image = np.zeros((700, 900, 3), np.uint8)
    image[..., 1] = 255
    axes = Figure().subplots()
    draw_image(axes, {"image": IMAGE}, {"image": image})
    shown = axes.images[0].get_array()
    assert max(shown.shape[:2]) <= 256
    assert np.allclose(shown, [0, 1, 0])
    grey = Schema("image", ("height", "width", "channel"), (Channel("density"),))
    draw_image(axes, {"image": grey}, {"image": np.random.default_rng(0).normal(size=(9, 9, 1))})
    bands = replace(grey, channels=tuple(map(Channel, "abcd")))
    with pytest.raises(SchemaError, match="a, b, c, d"):
        draw_image(axes, {"image": bands}, {"image": np.zeros((9, 9, 4))})

    axes = Figure().subplots()
    draw_text(axes, {"text": TEXT}, {"text": "a price of $5 and many $words$ " * 20})
    text = axes.texts[0].get_text()
    assert text.startswith("a price of \\$5")
    assert text.endswith("…")
    axes.figure.savefig("/dev/null", format="png")


def repeated(make_set):
    """Each sample stands in three rows that differ in `m1` only, as an image with captions."""
    made = make_set(n=120, absent=0)
    first = np.arange(120) - np.arange(120) % 3
    columns = {name: getattr(made, name)[first] for name in ("labels", "splits")}
    vectors = {**made.vectors, "m0": made.vectors["m0"][first]}
    return with_copies(replace(made, vectors=vectors, groups=made.ids[first], **columns))


def ids(panels):
    return [title.split("\n")[-1].removeprefix("✓ ") for title in panels]


def test_what_stands_in_several_rows_is_shown_once(make_set):
    made = repeated(make_set)
    artist = make_artist(Drawing(dataset=Samples(made), thumbnails={"m0": line}))
    rows = made.rows("test", "m0", "m1")
    task = Task(("m1", "m0"), inputs="m1->m0")
    figure = galleries.draw_retrieval(made, artist, task, rows, np.ones(len(rows), int), "group")
    similar = galleries.draw_similarity(made, artist, "m0")
    outliers = galleries.draw_outliers(made, artist, "m0", find_outliers(made))
    for of_queries in (figure, similar):
        for _, *found in np.reshape(titles(of_queries), (galleries.QUERIES, -1)):
            shown = made.groups[[made.ids.tolist().index(name) for name in ids(found)]]
            assert len(set(shown)) == len(shown)
    shown = [title.split("  ")[0] for title in titles(outliers)]
    assert len({made.groups[made.ids.tolist().index(name)] for name in shown}) == len(shown)
    title = draw_thumbnails_map(made, artist, "tsne").get_suptitle().replace("\n", " ")
    assert f"(m0; n = {len(rows) // 3};" in title


def test_data_without_classes_name_none(make_set, gallery):
    made = make_set(n=60, n_classes=1, absent=0)
    made = replace(made, classes=(), labels=np.full(60, -1))
    figures = gallery(made, m0=line)
    for name in ("similarity_m0", "retrieval_m0_m1"):
        assert not any("unknown" in title for title in titles(figures[name]))
        assert titles(figures[name])[0].startswith("query\n")
    assert "class" not in figures["similarity_m0"].get_supxlabel()


def test_outliers_without_distances_have_no_gallery(make_set):
    made = make_set(n=60)
    artist = make_artist(Drawing(dataset=Samples(made), thumbnails={"m0": line}))
    found = find_outliers(made)
    none = replace(found, distance={"m0": np.full(len(found.rows), np.nan)})
    assert galleries.draw_outliers(made, artist, "m0", none) is None


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
