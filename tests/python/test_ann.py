"""Approximate search through the facade: the recall asked for is had, nothing is lost, bad words are refused."""

import pickle
import re

import nseekfs
import numpy as np
import pytest

DIMS, ROWS = 64, 24_000


def unit(rows):
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def rows_of(kind, seed=0, rows=ROWS):
    """Rows of one of the shapes that embeddings have, and queries like them that are not among them."""
    rng = np.random.default_rng(seed)
    count = rows + 600
    if kind == "clusters":
        centres = rng.standard_normal((300, DIMS))
        made = centres[rng.integers(300, size=count)] + 0.4 * rng.standard_normal((count, DIMS))
    elif kind == "power law":
        made = rng.standard_normal((count, DIMS)) * np.arange(1, DIMS + 1) ** -0.7
    elif kind == "common direction":
        made = rng.standard_normal((count, DIMS)) * np.arange(1, DIMS + 1) ** -0.5 + np.eye(DIMS)[0] * 2
    else:
        made = rng.standard_normal((count, DIMS))
    made = unit(made)
    return made[:rows], made[rows:]


def recall(index, exact, queries, k=10, **how):
    found, best = index.search(queries, k, **how).indices, exact.search(queries, k).indices
    return float(np.mean([len(set(a) & set(b)) / k for a, b in zip(found.tolist(), best.tolist(), strict=True)]))


@pytest.fixture(scope="module")
def clusters():
    rows, queries = rows_of("clusters")
    return nseekfs.from_embeddings(rows, ann="ivf"), nseekfs.from_embeddings(rows), rows, queries


@pytest.mark.parametrize("kind", ["clusters", "power law", "common direction", "gaussian"])
@pytest.mark.parametrize("ann", ["ivf", "lsh"])
def test_the_recall_asked_for_is_had_on_queries_like_the_rows(kind, ann):
    rows, queries = rows_of(kind, 1)
    index, exact = nseekfs.from_embeddings(rows, ann=ann), nseekfs.from_embeddings(rows)
    for target in (0.8, 0.9, 0.95, 0.99):
        # 600 queries know their recall to about 0.01.
        assert recall(index, exact, queries, recall=target) >= target - 0.025, target


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize("near", [0.2, 0.5])
def test_rows_of_a_crowd_around_a_query_are_found(near, metric):
    # Crowds are smaller than cells, and what codes leave of their rows has much to do with the query.
    rng = np.random.default_rng(1)
    centres = unit(rng.standard_normal((200, 192)))
    made = unit(centres[rng.integers(200, size=20_200)] + near * unit(rng.standard_normal((20_200, 192))))
    rows, queries = made[:-200], made[-200:]
    if metric != "cosine":
        rows = rows * rng.uniform(0.98, 1.02, (20_000, 1)).astype(np.float32)
    index = nseekfs.from_embeddings(rows, metric, ann="ivf", nlist=40)
    exact = nseekfs.from_embeddings(rows, metric)
    missed = [
        index.explain_miss(query, row, k=10, nprobe=8)
        for query, best in zip(queries, exact.search(queries, 10).indices, strict=True)
        for row in set(best.tolist()) - set(index.query(query, 10, nprobe=8).indices.tolist())
    ]
    visited = [miss for miss in missed if miss.places[0].place < miss.probes]
    assert len(visited) <= 4  # of 2000
    assert all("likely" in miss.reason for miss in visited)


def queries_and_rows_that_codes_are_ill_made_for(kind, rng, rows=20_000):
    """Rows and queries that have much to do with what is left out of codes, or with what codes reach."""
    made = rng.standard_normal((rows + 200, 128))
    if kind == "steep":
        made *= np.arange(1, 129) ** -2.0
    elif kind == "along the widest axis":
        made *= np.arange(1, 129) ** -0.15
        made[-200:] *= 0.02
        made[-200:, 0] += 1
    else:
        made += 1
        made[-200:] = -1 + 0.1 * rng.standard_normal((200, 128)) if kind == "against the mean" else -made[-200:]
    return made[:rows].astype(np.float32), made[rows:].astype(np.float32)


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize("kind", ["steep", "along the widest axis", "against the mean", "opposite rows"])
def test_rows_of_visited_cells_are_found_where_codes_err_with_the_query(kind, metric):
    rows, queries = queries_and_rows_that_codes_are_ill_made_for(kind, np.random.default_rng(7))
    index = nseekfs.from_embeddings(rows, metric, ann="ivf", nlist=40)
    exact = nseekfs.from_embeddings(rows, metric)
    missed = [
        miss
        for query, best in zip(queries, exact.search(queries, 10).indices, strict=True)
        for row in set(best.tolist()) - set(index.query(query, 10, nprobe=12).indices.tolist())
        if (miss := index.explain_miss(query, row, k=10, nprobe=12)).places[0].place < miss.probes
    ]
    assert len(missed) <= 4  # of 2000
    together = index.search(queries, 10, nprobe=12, return_keys=True)
    alone = [index.query(query, 10, nprobe=12) for query in queries]
    assert together.indices.tolist() == [one.indices.tolist() for one in alone]
    assert together.keys.tobytes() == b"".join(one.keys.tobytes() for one in alone)


def test_ann_says_what_why_and_what_it_was_tuned_on(clusters):
    index, exact, _, _ = clusters
    assert index.ann == "ivf"
    assert index.ann != "exact"
    assert exact.ann == "exact"
    assert index.ann.cells > 100
    assert index.ann.spilled
    assert index.ann.tuned_on == "rows"
    assert index.ann.queries == 1000
    assert {point.k for point in index.ann.points} == {1, 10, 100, 1000}
    by_probes = [point for point in index.ann.points if point.k == 10]
    assert [point.probes for point in by_probes] == sorted({point.probes for point in by_probes})
    assert by_probes[-1].recall == 1
    assert by_probes[-1].probes == index.ann.cells
    assert str(index.ann) == f"ivf of {index.ann.cells} cells, rows in two each, tuned to recall 0.95 on 1000 rows"
    assert "ivf by codes" in repr(index)


def test_more_recall_visits_more_rows_and_all_of_it_is_the_exact_answer(clusters):
    index, exact, _, queries = clusters
    measured = [index.recall(queries, recall=target) for target in (0.5, 0.9, 0.99)]
    assert [found.visited for found in measured] == sorted(found.visited for found in measured)
    assert all(found.low <= found.recall <= found.high and found.queries == len(queries) for found in measured)
    for how in ({"recall": 1.0}, {"nprobe": index.ann.cells}, {"method": "simd"}):
        for part in ("indices", "scores"):
            found, best = (getattr(one.search(queries, 10, **how_), part) for one, how_ in ((index, how), (exact, {})))
            assert np.array_equal(found, best), how


def test_one_query_and_many_visit_the_same_rows(clusters):
    index, _, _, queries = clusters
    together = index.search(queries[:60], 10, return_keys=True)
    for i, query in enumerate(queries[:60]):
        alone = index.query(query, 10)
        assert alone.indices.tolist() == together.indices[i].tolist()
        assert alone.keys.tobytes() == together.keys[i].tobytes()
        assert np.array_equal(index.query(query, 10, threads=1).indices, alone.indices)


def test_an_answer_is_called_exact_only_if_it_is(clusters):
    index, exact, _, queries = clusters
    proven = 0
    for nprobe in (1, 3, 10, 40, 150):
        for query in queries[:120]:
            hits = index.query(query, 3, nprobe=nprobe)
            if hits.certificate.exact:
                proven += 1
                assert hits == exact.query(query, 3)
                assert hits.certificate.left <= hits.certificate.kth
            else:
                assert hits.certificate.left == np.inf
    assert proven > 0
    assert exact.query(queries[0]).certificate.exact


@pytest.mark.parametrize("ann", ["ivf", "lsh"])
@pytest.mark.parametrize("share", [0.5, 0.1, 0.01, 0.001])
def test_filters_keep_the_recall(ann, share):
    rows, queries = rows_of("clusters", 2)
    index, exact = nseekfs.from_embeddings(rows, ann=ann), nseekfs.from_embeddings(rows)
    allowed = np.random.default_rng(3).random(len(rows)) < share
    found, best = (one.search(queries[:200], 5, filter=allowed).indices for one in (index, exact))
    assert allowed[found].all()
    shared = np.mean([len(set(a) & set(b)) / 5 for a, b in zip(found.tolist(), best.tolist(), strict=True)])
    assert shared >= 0.92
    numbers = np.flatnonzero(allowed)
    assert np.array_equal(index.search(queries[:20], 5, filter=numbers).indices, found[:20])


@pytest.mark.parametrize("share", [0.5, 0.1, 0.01])
def test_filters_that_go_against_the_query_keep_most_of_the_recall(share):
    rows, queries = rows_of("clusters", 12)
    index, exact = nseekfs.from_embeddings(rows, ann="ivf"), nseekfs.from_embeddings(rows)
    near = rows @ rows[7]
    for allowed in (near >= np.quantile(near, 1 - share), np.arange(len(rows)) < share * len(rows)):
        found, best = (one.search(queries[:200], 5, filter=allowed).indices for one in (index, exact))
        shared = np.mean([len(set(a) & set(b)) / 5 for a, b in zip(found.tolist(), best.tolist(), strict=True)])
        assert shared >= 0.85


@pytest.mark.parametrize("ann", ["ivf", "lsh"])
def test_as_many_rows_as_there_are_come_back(ann):
    rows, queries = rows_of("clusters", 4, 3000)
    index = nseekfs.from_embeddings(rows, ann=ann)
    how = {"nprobe": 1} if ann == "ivf" else {"probes": 1}
    for k in (1, 500, 3000, 4000):
        hits = index.query(queries[0], k, **how)
        assert len(hits) == min(k, 3000) == len(set(hits.indices.tolist()))
    assert len(index.query(queries[0], 10, filter=[7, 2999], **how)) == 2
    assert len(index.query(queries[0], 10, filter=np.zeros(3000, bool), **how)) == 0
    assert len(index.query(np.zeros(DIMS), 10, **how)) == 10
    for k in (2**61, 2**61 + 4, 2**63 - 1):
        assert len(index.query(queries[0], k, **how)) == 3000
        assert not index.explain_miss(queries[0], 0, k=k, **how).reason.startswith("its key")


@pytest.mark.parametrize("level", ["f64", "f32", "f16", "f8"])
@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_every_level_and_metric_finds_what_it_visits(level, metric):
    rng = np.random.default_rng(5)
    rows, queries = rows_of("clusters", 5, 4000)
    rows = rows * rng.uniform(0.5, 2, (len(rows), 1)).astype(np.float32)
    rows[17] = 0
    index = nseekfs.from_embeddings(rows, metric, level=level, ann="ivf", nlist=50)
    exact = nseekfs.from_embeddings(rows, metric, level=level)
    assert index.ann.cells == 50
    all_cells = index.search(queries, 10, nprobe=50, return_keys=True)
    best = exact.search(queries, 10, return_keys=True)
    assert all(np.array_equal(a, b) for a, b in zip(all_cells, best, strict=True))
    assert recall(index, exact, queries, recall=0.9) >= 0.87


def test_another_metric_than_the_cells_serve_is_answered_exactly():
    rows, queries = rows_of("clusters", 6, 4000)
    longer = rows * np.linspace(0.5, 2, len(rows), dtype=np.float32)[:, None]
    index, exact = nseekfs.from_embeddings(longer, ann="ivf"), nseekfs.from_embeddings(longer)
    for metric in ("dot", "euclidean"):
        found, best = (one.search(queries[:20], 10, similarity=metric) for one in (index, exact))
        assert np.array_equal(found.indices, best.indices)


def test_true_takes_cells_where_they_cost_less_and_exact_search_where_not():
    rows, _ = rows_of("clusters", 7)
    assert nseekfs.from_embeddings(rows, ann=True).ann == "ivf"
    assert nseekfs.from_embeddings(rows, ann=True, level="f8").ann == "exact"
    assert nseekfs.from_embeddings(rows[:500], ann=True).ann == "exact"
    assert nseekfs.from_embeddings(rows_of("gaussian", 7)[0], ann=True, recall=0.999).ann == "exact"


def test_tuning_on_queries_of_another_kind_serves_them(clusters):
    index, exact, rows, _ = clusters
    rng = np.random.default_rng(8)
    between = unit(rows[rng.integers(len(rows), size=(900, 3))].sum(axis=1))
    tuned = index.tune(0.9, queries=between[:500])
    try:
        assert index.ann == tuned
        assert tuned.tuned_on == "queries"
        assert tuned.queries == 500
        assert tuned.recall == 0.9
        assert recall(index, exact, between[500:]) >= 0.875
    finally:
        assert index.tune(0.95).tuned_on == "rows"


@pytest.mark.parametrize("ann", ["ivf", "lsh"])
def test_a_file_keeps_the_cells_and_what_was_measured(tmp_path, ann):
    rows, queries = rows_of("clusters", 9, 6000)
    path = nseekfs.create_index(rows, tmp_path, ann=ann, recall=0.85, seed=3)
    built = nseekfs.from_embeddings(rows, ann=ann, recall=0.85, seed=3)
    with nseekfs.load_index(path, verify="full") as index:
        assert index.ann == built.ann
        assert index.ann.recall == 0.85
        how = {"nprobe": 2} if ann == "ivf" else {"probes": 20}
        assert np.array_equal(index.search(queries, 10, **how).indices, built.search(queries, 10, **how).indices)
        again = pickle.loads(pickle.dumps(index))
        assert again.ann == built.ann
        index.tune(0.7)
        index.save(tmp_path / "tuned.bin")
    with nseekfs.load_index(tmp_path / "tuned.bin") as index:
        assert index.ann.recall == 0.7
    with nseekfs.load_index(path, ann=False) as index:
        assert index.ann == "exact"
        assert pickle.loads(pickle.dumps(index)).ann == "exact"
        exact = nseekfs.from_embeddings(rows)
        assert np.array_equal(index.search(queries, 10).indices, exact.search(queries, 10).indices)


def test_the_same_rows_and_seed_give_the_same_file_for_any_number_of_threads(tmp_path):
    rows, _ = rows_of("clusters", 10, 5000)
    for n in (1, 3):
        nseekfs.create_index(rows, tmp_path / str(n), ann="ivf", seed=4, threads=n)
    first, second = (tmp_path / str(n) / "index_f32.bin" for n in (1, 3))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("ann", ["ivf", "lsh"])
def test_what_the_caller_gives_is_never_changed(ann):
    rows, queries = rows_of("clusters", 13, 4000)
    before = rows.tobytes(), queries.tobytes()
    index = nseekfs.from_embeddings(rows, ann=ann)
    index.tune(0.9, queries=queries)
    index.recall(queries)
    index.search(queries, 5)
    index.explain_miss(queries[0], 3)
    assert (rows.tobytes(), queries.tobytes()) == before
    rows.flags.writeable = queries.flags.writeable = False
    assert nseekfs.from_embeddings(rows, ann=ann).tune(0.9, queries=queries) == index.tune(0.9, queries=queries)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_queries_that_are_no_numbers_are_refused_wherever_they_are_given(clusters, bad):
    index, _, _, queries = clusters
    spoilt = queries[:3].copy()
    spoilt[1, 2] = bad
    for ask in (index.search, index.recall, lambda given: index.tune(queries=given)):
        with pytest.raises(nseekfs.InputError, match=r"expected finite values, got .* at row 1, column 2"):
            ask(spoilt)
    with pytest.raises(nseekfs.InputError, match="expected finite values"):
        index.explain_miss(spoilt[1], 0)


def test_a_miss_is_explained(clusters):
    index, exact, _, queries = clusters
    seen = set()
    for query in queries[:80]:
        best = exact.query(query, 10).indices
        for row in best:
            miss = index.explain_miss(query, row, nprobe=1)
            assert miss.found == (row in index.query(query, 10, nprobe=1).indices)
            assert len(miss.places) in (1, 2)
            assert miss.probes == 1
            if not miss.found:
                assert miss.places[0].place >= 1
                assert "were visited" in miss.reason
                seen.add("place")
        worst = exact.query(query, len(index)).indices[-1]
        assert "is not among the best" in index.explain_miss(query, worst, nprobe=index.ann.cells).reason
    assert seen == {"place"}
    reasons = {
        index.explain_miss(query, row, nprobe=99, ratio_threshold=1.0).reason
        for query in queries[:80]
        for row in exact.query(query, 10).indices
    }
    assert any(reason.startswith("ratio_threshold left it out") for reason in reasons)
    assert exact.explain_miss(queries[0], 5).places == ()


def test_a_share_of_the_best_score_leaves_cells_out(clusters):
    index, _, _, queries = clusters
    read = [index.recall(queries, nprobe=40, ratio_threshold=ratio).visited for ratio in (0.0, 0.5, 0.9, 1.0)]
    assert read == sorted(read, reverse=True)
    assert read[-1] < read[0]
    assert all(len(index.query(-query, 5, nprobe=9, ratio_threshold=1.0)) == 5 for query in queries[:20])


@pytest.mark.parametrize(
    ("build", "text"),
    [
        ({"ann": "hnsw"}, "ann: expected True, False, 'ivf' or 'lsh', got \"hnsw\""),
        ({"ann": 1}, "ann: expected True, False, 'ivf' or 'lsh', got 1"),
        ({"ann": None}, "ann: expected True, False, 'ivf' or 'lsh', got None"),
        ({"ann": "ivf", "recall": 0}, "recall: expected a number above 0, at most 1, got 0"),
        ({"ann": "ivf", "recall": float("nan")}, "recall: expected a number above 0, at most 1, got NaN"),
        ({"ann": "ivf", "recall": "high"}, "recall: expected a real number, got 'high'"),
        ({"ann": "ivf", "nlist": 0}, "nlist: expected a whole number from 1 to 50, the number of rows, got 0"),
        ({"ann": "ivf", "nlist": 51}, "nlist: expected a whole number from 1 to 50, the number of rows, got 51"),
        ({"ann": True, "nlist": -5}, "nlist: expected a whole number from 1 to 50, the number of rows, got -5"),
        ({"ann": "ivf", "nlist": -1}, "nlist: expected a whole number from 1 to 50, the number of rows, got -1"),
        ({"ann": "lsh", "tables": 65}, "tables: expected a whole number from 1 to 64, got 65"),
        ({"ann": "lsh", "bits": 0}, "bits: expected a whole number from 1 to 24, got 0"),
        ({"ann": "ivf", "bits": 5}, "bits: expected ann='lsh' with it, got ann='ivf'"),
        ({"ann": "lsh", "nlist": 5}, "nlist: expected ann='ivf' with it, got ann='lsh'"),
        ({"nlist": 5}, "nlist: expected ann='ivf' with it, got ann=False"),
        ({"ann": "lsh", "metric": "dot"}, "ann: expected 'ivf' for rows that differ in length"),
    ],
)
def test_what_cannot_be_built_is_refused(build, text):
    rows = np.random.default_rng(0).standard_normal((50, 8))
    with pytest.raises((nseekfs.InputError, nseekfs.InputTypeError), match=re.escape(text)):
        nseekfs.from_embeddings(rows, **build)


def test_reorder_k_limits_the_rows_read_and_keeps_the_best_by_their_codes():
    rng = np.random.default_rng(4)
    made = unit(rng.standard_normal((30_300, 96)) * np.arange(1, 97) ** -0.3)
    rows, queries = made[:-300], made[-300:]
    index, exact = nseekfs.from_embeddings(rows, ann="ivf", nlist=100), nseekfs.from_embeddings(rows)
    shares = []
    for most in (10, 12, 16, None):
        hits = [index.query(query, 10, nprobe=60, reorder_k=most) for query in queries]
        assert all(len(one) == 10 for one in hits)
        read = [one.certificate.refined for one in hits]
        assert max(read) <= (most or len(rows))
        assert most is None or not any(one.certificate.exact for one in hits)
        together = index.search(queries, 10, nprobe=60, reorder_k=most, return_keys=True)
        assert together.indices.tolist() == [one.indices.tolist() for one in hits]
        assert together.keys.tobytes() == b"".join(one.keys.tobytes() for one in hits)
        shares.append(recall(index, exact, queries, nprobe=60, reorder_k=most))
    assert shares == sorted(shares)
    # Of 30,000 rows ten are read, and most of them are the ones that all reading finds.
    assert shares[-1] > shares[0] > 0.8 * shares[-1]
    everything = index.query(queries[0], 10, nprobe=100, reorder_k=10)
    assert not everything.certificate.exact
    plain = nseekfs.from_embeddings(rows[:500], ann="ivf")
    with pytest.raises(
        nseekfs.InputError, match="reorder_k: expected it only for an index that is asked with ann='ivf' and"
    ):
        plain.query(queries[0], reorder_k=10)
    assert everything.certificate.left == np.inf


def test_cells_have_the_names_of_scann_too(clusters):
    index, _, rows, queries = clusters
    assert nseekfs.from_embeddings(rows[:2000], ann="ivf", num_leaves=20).ann.cells == 20
    found = [index.search(queries, 10, **{name: 7}).indices for name in ("nprobe", "num_leaves_to_search")]
    assert np.array_equal(*found)
    assert index.recall(queries, num_leaves_to_search=7) == index.recall(queries, nprobe=7)
    with pytest.raises(nseekfs.InputError, match="num_leaves: expected it or nlist, which is the same, got both"):
        nseekfs.from_embeddings(rows, ann="ivf", nlist=20, num_leaves=20)
    with pytest.raises(nseekfs.InputError, match="num_leaves_to_search: expected it or nprobe, which is the same"):
        index.query(queries[0], nprobe=1, num_leaves_to_search=1)
    with pytest.raises(nseekfs.InputError, match="num_leaves_to_search: expected a whole number from 1"):
        index.query(queries[0], num_leaves_to_search=0)
    with pytest.raises(nseekfs.InputTypeError, match=r"num_leaves: expected a whole number, got 2\.5"):
        nseekfs.from_embeddings(rows, ann="ivf", num_leaves=2.5)


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"recall": 1.5}, "recall: expected a number above 0, at most 1, got 1.5"),
        ({"nprobe": 0}, "nprobe: expected a whole number of at least 1, got 0"),
        ({"nprobe": 2.5}, "nprobe: expected a whole number, got 2.5"),
        ({"probes": 3}, "probes: expected it only for an index that is asked with ann='lsh'"),
        ({"ratio_threshold": 1.5}, "ratio_threshold: expected a number from 0 to 1, got 1.5"),
        ({"reorder_k": 9}, "reorder_k: expected a whole number of at least k, 10, got 9"),
        ({"reorder_k": 20.0}, "reorder_k: expected a whole number, got 20.0"),
    ],
)
def test_what_cannot_be_asked_is_refused(clusters, asked, text):
    index, exact, _, queries = clusters
    for ask in (index.query, index.search):
        with pytest.raises((nseekfs.InputError, nseekfs.InputTypeError), match=re.escape(text)):
            ask(queries[0], **asked)
    with pytest.raises(nseekfs.InputError, match="nprobe: expected it only for an index that is asked with ann='ivf'"):
        exact.query(queries[0], nprobe=3)
    with pytest.raises(nseekfs.InputError, match="ann: expected an index for approximate search"):
        exact.tune()
    with pytest.raises(nseekfs.InputError, match="row: expected a row from 0 to"):
        index.explain_miss(queries[0], ROWS)
    with pytest.raises(nseekfs.InputError, match="queries: expected"):
        index.recall(np.zeros((3, DIMS + 1)))


@pytest.mark.parametrize("ann", ["ivf", "lsh", True])
def test_small_and_odd_tables_are_served(ann):
    rng = np.random.default_rng(11)
    for shape in ((1, 1), (1, 5), (2, 3), (17, 1), (40, 4097)):
        rows = rng.standard_normal(shape)
        index, exact = nseekfs.from_embeddings(rows, ann=ann), nseekfs.from_embeddings(rows)
        assert len(index.query(rows[0], 100)) == shape[0]
        assert index.query(rows[0], 100, recall=1.0) == exact.query(rows[0], 100)
        assert 0 <= index.recall(k=3).recall <= 1
    same = np.ones((5000, 16), np.float32)
    assert nseekfs.from_embeddings(same, ann=ann).query(same[0], 3).indices.tolist() == [0, 1, 2]
    zeros = np.zeros((3000, 16), np.float32)
    assert nseekfs.from_embeddings(zeros, ann=ann).query(same[0], 3).indices.tolist() == [0, 1, 2]
