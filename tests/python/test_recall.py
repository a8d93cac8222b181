"""Unseen queries get the recall asked for on tables that are hard for it, and an index says what it cannot promise."""

import nseekfs
import numpy as np
import pytest

ROWS, DIMS, COUNT, K = 40_000, 32, 500, 10
TARGETS = (0.8, 0.9, 0.95)


def texts(random, count, topics=300):
    """Rows around the centres of some topics, which lie in few of the dims: like sentence embeddings."""
    axes = random.standard_normal((DIMS, DIMS)) / np.arange(1, DIMS + 1) ** 0.5
    centres = random.standard_normal((topics, DIMS))
    topic = np.sort(random.integers(topics, size=count))
    return (centres[topic] + 0.9 * random.standard_normal((count, DIMS))) @ axes


def gaussian(random):
    return random.standard_normal((ROWS + COUNT, DIMS))


def power_law(random):
    return random.standard_normal((ROWS + COUNT, DIMS)) / np.arange(1, DIMS + 1) ** 0.7


def common_direction(random):
    return random.standard_normal((ROWS + COUNT, DIMS)) + 3 * random.standard_normal(DIMS)


def by_topic(random):
    return texts(random, ROWS + COUNT)


def apart(random, made):
    """A table and the queries drawn from it."""
    chosen = np.zeros(len(made), bool)
    chosen[random.choice(len(made), COUNT, replace=False)] = True
    return made[~chosen].astype("f4"), made[chosen].astype("f4")


def copies(random, made, noise=0.0):
    table, queries = apart(random, made)
    table = np.repeat(table, 20, axis=0)[random.permutation(20 * len(table))]
    return table + np.float32(noise) * random.standard_normal(table.shape).astype("f4"), queries


def had(index, queries, target):
    """The recall of an index, by keys: of rows that score alike any will do."""
    least = index.search(queries, K, method="simd").keys[:, -1:] - 1e-12
    return float((index.search(queries, K, recall=target).keys >= least).mean())


def approximate(table, kind):
    index = nseekfs.from_embeddings(table, ann=kind, recall=0.8, seed=1, codes=kind != "lsh")
    assert index.explain_miss(table[0], 0, k=K).nprobe > 0, "the search is exact: nothing is tested"
    return index


@pytest.mark.parametrize("make", [gaussian, power_law, common_direction, by_topic])
def test_unseen_rows_get_the_recall_asked_for(make):
    table, queries = apart(np.random.default_rng(1), make(np.random.default_rng(0)))
    index = approximate(table, "ivf")
    assert {target: had(index, queries, target) >= target for target in TARGETS} == dict.fromkeys(TARGETS, True)


def test_buckets_give_unseen_rows_the_recall_asked_for():
    random = np.random.default_rng(0)
    made = random.standard_normal((12_000 + COUNT, 256)) / np.arange(1, 257) ** 0.7
    table, queries = apart(random, made)
    index = approximate(table, "lsh")
    assert {target: had(index, queries, target) >= target for target in TARGETS} == dict.fromkeys(TARGETS, True)


@pytest.mark.parametrize("noise", [0.0, 1e-3])
def test_a_table_of_copies_gives_unseen_queries_the_recall_asked_for_and_tells_it(noise):
    random = np.random.default_rng(2)
    table, queries = copies(random, random.standard_normal((ROWS // 20 + COUNT, DIMS)), noise)
    index = approximate(table, "ivf")
    assert {target: had(index, queries, target) >= target for target in TARGETS} == dict.fromkeys(TARGETS, True)
    told = index.recall(k=K)
    assert abs(told.recall - had(index, queries, 0.8)) < 0.1
    # Of the copies of a row one is a query.
    assert told.queries < 1000


def test_queries_far_from_all_cells_visit_more_of_them():
    random = np.random.default_rng(3)
    table, like = apart(random, by_topic(random))
    unlike = (
        0.6 * like + 0.4 * np.linalg.norm(like, axis=1).mean() * random.standard_normal(like.shape) / DIMS**0.5
    ).astype("f4")
    index = approximate(table, "ivf")
    visited = [index.recall(queries, k=K, recall=0.9).visited for queries in (like, unlike)]
    assert visited[1] > 1.5 * visited[0]
    # A fixed number of cells finds far less for them than for rows.
    fixed = nseekfs.Effort(nprobe=8)
    lost = index.recall(like, k=K, effort=fixed).recall - index.recall(unlike, k=K, effort=fixed).recall
    adapted = had(index, like, 0.9) - had(index, unlike, 0.9)
    assert adapted < lost / 2


def test_an_index_says_that_rows_promise_nothing_about_other_queries():
    table, queries = apart(np.random.default_rng(1), power_law(np.random.default_rng(0)))
    index = approximate(table, "ivf")
    assert "for queries like them (others: tune(queries=...))" in repr(index.ann)
    told = index.recall(k=K)
    assert told.measured_on == "rows"
    assert "held-out rows, for queries like them (others: recall(queries=...))" in repr(told)
    assert index.recall(queries, k=K).measured_on == "queries"
    assert index.tune(queries=queries).tuned_on == "queries"


def test_finding_all_in_a_small_sample_is_no_certainty_and_exact_search_is():
    random = np.random.default_rng(4)
    table, _ = copies(random, random.standard_normal((ROWS // 20 + COUNT, DIMS)))
    index = approximate(table, "ivf")
    told = index.recall(k=K, effort=nseekfs.Effort(nprobe=index.ann.nlist // 2))
    assert told.recall == told.high == 1
    assert 0.9 < told.low < 1
    exact = index.recall(k=K, recall=1)
    assert (exact.low, exact.recall, exact.high, exact.exact) == (1, 1, 1, 1)
