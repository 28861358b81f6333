import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

import zoo
from shared.errors import EvaluationError


@settings(max_examples=10)
@given(k=st.integers(1, 12), query=st.integers(0, 30))
def test_neighbours_are_those_of_scikit_learn(made_up, k, query):
    rows = np.flatnonzero(made_up.present["m1"])
    queries = rows[[query, query + 3]]
    neighbours, cosine = zoo.similar(made_up, queries, "m1", k)
    search = NearestNeighbors(n_neighbors=k + 1, metric="cosine").fit(made_up.vectors["m1"][rows])
    distance, expected = search.kneighbors(made_up.vectors["m1"][queries])
    assert np.array_equal(neighbours, rows[expected[:, 1:]])
    np.testing.assert_allclose(cosine, 1 - distance[:, 1:], atol=1e-5)


def test_a_copy_is_found_and_the_query_is_not(make_set):
    made = make_set(n=20, widths=(3,))
    made.vectors["m0"][:5] = made.vectors["m0"][7]
    neighbours, cosine = zoo.similar(made, [7, 0], "m0", 5)
    assert sorted(neighbours[0]) == [0, 1, 2, 3, 4]
    assert sorted(neighbours[1]) == [1, 2, 3, 4, 7]
    np.testing.assert_allclose(cosine, 1)


def test_few_samples_and_absent_queries(make_set):
    made = make_set(n=4)
    made.present["m1"][0] = False
    neighbours, _ = zoo.similar(made, 1, "m0", 9)
    assert sorted(neighbours[0]) == [0, 2, 3]
    with pytest.raises(EvaluationError, match="'star0' has no 'm1'"):
        zoo.similar(made, [1, 0], "m1")
