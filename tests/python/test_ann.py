"""Approximate search through the Python API: target recalls are reached, files keep the index, errors are typed."""

import pickle
import re

import nseekfs
import numpy as np
import pytest
from nseekfs import IVF, LSH, Effort
from reference import parts

DIMS, ROWS = 64, 24_000
KINDS = "ann: expected None, True, False, 'ivf', 'lsh', an nseekfs.IVF or an nseekfs.LSH"


def unit(rows):
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def rows_of(kind, seed=0, rows=ROWS):
    """Rows of a distribution that embeddings have, and held-out queries of the same distribution."""
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
def test_the_target_recall_is_reached_on_queries_like_the_rows(kind, ann):
    rows, queries = rows_of(kind, 1)
    index, exact = nseekfs.from_embeddings(rows, ann=ann), nseekfs.from_embeddings(rows)
    for target in (0.8, 0.9, 0.95, 0.99):
        # The standard error of the recall of 600 queries is about 0.01.
        assert recall(index, exact, queries, recall=target) >= target - 0.025, target


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize("near", [0.2, 0.5])
def test_rows_of_a_crowd_around_a_query_are_found(near, metric):
    # Groups are smaller than cells, and residuals of their rows correlate with the query.
    rng = np.random.default_rng(1)
    centres = unit(rng.standard_normal((200, 192)))
    made = unit(centres[rng.integers(200, size=20_200)] + near * unit(rng.standard_normal((20_200, 192))))
    rows, queries = made[:-200], made[-200:]
    if metric != "cosine":
        rows = rows * rng.uniform(0.98, 1.02, (20_000, 1)).astype(np.float32)
    index = nseekfs.from_embeddings(rows, metric, ann=IVF(nlist=40))
    exact = nseekfs.from_embeddings(rows, metric)
    missed = [
        index.explain_miss(query, row, k=10, effort=Effort(nprobe=8))
        for query, best in zip(queries, exact.search(queries, 10).indices, strict=True)
        for row in set(best.tolist()) - set(index.query(query, 10, effort=Effort(nprobe=8)).indices.tolist())
    ]
    visited = [miss for miss in missed if miss.cells[0].rank <= miss.nprobe]
    assert len(visited) <= 4  # of 2000
    assert all("likely" in miss.reason for miss in visited)


def queries_and_rows_that_codes_are_ill_made_for(kind, rng, rows=20_000):
    """Rows and queries that correlate with residuals of codes, or with the range of codes."""
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
    index = nseekfs.from_embeddings(rows, metric, ann=IVF(nlist=40))
    exact = nseekfs.from_embeddings(rows, metric)
    effort = Effort(nprobe=12)
    missed = [
        miss
        for query, best in zip(queries, exact.search(queries, 10).indices, strict=True)
        for row in set(best.tolist()) - set(index.query(query, 10, effort=effort).indices.tolist())
        if (miss := index.explain_miss(query, row, k=10, effort=effort)).cells[0].rank <= miss.nprobe
    ]
    assert len(missed) <= 4  # of 2000
    together = index.search(queries, 10, effort=effort)
    alone = [index.query(query, 10, effort=effort) for query in queries]
    assert together.indices.tolist() == [one.indices.tolist() for one in alone]
    assert together.keys.tobytes() == b"".join(one.keys.tobytes() for one in alone)


def test_ann_says_what_why_and_what_it_was_tuned_on(clusters):
    index, exact, _, _ = clusters
    assert index.ann == "ivf"
    assert index.ann != "exact"
    assert exact.ann == "exact"
    assert index.ann.nlist > 100
    assert index.ann.spill
    assert index.ann.tuned_on == "rows"
    assert index.ann.queries == 1000
    assert {point.k for point in index.ann.tuning} == {1, 10, 100, 1000}
    by_nprobe = [point for point in index.ann.tuning if point.k == 10]
    assert [point.nprobe for point in by_nprobe] == sorted({point.nprobe for point in by_nprobe})
    assert by_nprobe[-1].recall == 1
    assert by_nprobe[-1].nprobe == index.ann.nlist
    said = f"ivf of {index.ann.nlist} cells, every row in two of them, tuned for recall 0.95 on 1000 held-out rows"
    said += ", for queries like them (others: tune(queries=...))"
    assert str(index.ann) == repr(index.ann) == said
    assert "ivf by codes" in repr(index)


def test_more_recall_visits_more_rows_and_all_of_it_is_the_exact_answer(clusters):
    index, exact, _, queries = clusters
    measured = [index.recall(queries, recall=target) for target in (0.5, 0.9, 0.99)]
    assert [found.visited for found in measured] == sorted(found.visited for found in measured)
    assert all(found.low <= found.recall <= found.high and found.queries == len(queries) for found in measured)
    for how in ({"recall": 1.0}, {"effort": Effort(nprobe=index.ann.nlist)}, {"method": "simd"}):
        for part in ("indices", "scores"):
            found, best = (getattr(one.search(queries, 10, **how_), part) for one, how_ in ((index, how), (exact, {})))
            assert np.array_equal(found, best), how


def test_one_query_and_many_visit_the_same_rows(clusters):
    index, _, _, queries = clusters
    together = index.search(queries[:60], 10)
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
            hits = index.query(query, 3, effort=Effort(nprobe=nprobe))
            if hits.certificate.exact:
                proven += 1
                assert hits == exact.query(query, 3)
                assert hits.certificate.best_bound_left <= hits.certificate.kth_key
            else:
                assert hits.certificate.best_bound_left == np.inf
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
    """On average over tables: of one, the share varies by 0.01."""
    shares = []
    for seed in (12, 13, 14):
        rows, queries = rows_of("clusters", seed)
        index, exact = nseekfs.from_embeddings(rows, ann="ivf"), nseekfs.from_embeddings(rows)
        near = rows @ rows[7]
        for allowed in (near >= np.quantile(near, 1 - share), np.arange(len(rows)) < share * len(rows)):
            found, best = (one.search(queries[:200], 5, filter=allowed).indices for one in (index, exact))
            shares.append(
                np.mean([len(set(a) & set(b)) / 5 for a, b in zip(found.tolist(), best.tolist(), strict=True)])
            )
    assert np.mean(shares) >= 0.85
    assert min(shares) >= 0.8


@pytest.mark.parametrize("ann", ["ivf", "lsh"])
def test_as_many_rows_as_there_are_come_back(ann):
    rows, queries = rows_of("clusters", 4, 3000)
    index = nseekfs.from_embeddings(rows, ann=ann)
    effort = Effort(nprobe=1)
    for k in (1, 500, 3000, 4000):
        hits = index.query(queries[0], k, effort=effort)
        assert len(hits) == min(k, 3000) == len(set(hits.indices.tolist()))
    assert len(index.query(queries[0], 10, filter=[7, 2999], effort=effort)) == 2
    assert len(index.query(queries[0], 10, filter=np.zeros(3000, bool), effort=effort)) == 0
    assert len(index.query(np.zeros(DIMS), 10, effort=effort)) == 10
    for k in (2**61, 2**61 + 4, 2**63 - 1):
        assert len(index.query(queries[0], k, effort=effort)) == 3000
        assert not index.explain_miss(queries[0], 0, k=k, effort=effort).reason.startswith("its key")


@pytest.mark.parametrize("level", ["f64", "f32", "f16", "f8"])
@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_every_level_and_metric_finds_what_it_visits(level, metric):
    rng = np.random.default_rng(5)
    rows, queries = rows_of("clusters", 5, 4000)
    rows = rows * rng.uniform(0.5, 2, (len(rows), 1)).astype(np.float32)
    rows[17] = 0
    index = nseekfs.from_embeddings(rows, metric, level=level, ann=IVF(nlist=50))
    exact = nseekfs.from_embeddings(rows, metric, level=level)
    assert index.ann.nlist == 50
    all_cells = parts(index.search(queries, 10, effort=Effort(nprobe=50)))
    best = parts(exact.search(queries, 10))
    assert all(np.array_equal(a, b) for a, b in zip(all_cells, best, strict=True))
    assert recall(index, exact, queries, recall=0.9) >= 0.87


@pytest.mark.parametrize("noise", [0, 1e-3])
@pytest.mark.parametrize("ann", ["ivf", "lsh"])
def test_the_recall_asked_for_is_had_where_rows_repeat(ann, noise):
    # Measured with rows whose nearest are their own copies: 0.38 and 0.02, where recall() says 1.
    texts, queries = rows_of("gaussian", 4, 1500)
    rng = np.random.default_rng(4)
    rows = np.repeat(texts, 16, axis=0)[rng.permutation(ROWS)]
    rows = unit(rows + noise * rng.standard_normal(rows.shape))
    index, exact = nseekfs.from_embeddings(rows, ann=ann, recall=0.8), nseekfs.from_embeddings(rows)
    # Copies are found or missed together, so 600 queries know their recall to 0.03.
    assert recall(index, exact, queries) >= 0.8 - 0.05
    assert abs(index.recall().recall - index.recall(queries).recall) < 0.1


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
        effort = Effort(nprobe=2 if ann == "ivf" else 20)
        found, same = (one.search(queries, 10, effort=effort).indices for one in (index, built))
        assert np.array_equal(found, same)
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
            miss = index.explain_miss(query, row, effort=Effort(nprobe=1))
            assert miss.found == (row in index.query(query, 10, effort=Effort(nprobe=1)).indices)
            assert len(miss.cells) in (1, 2)
            assert [cell.rank for cell in miss.cells] == sorted(cell.rank for cell in miss.cells)
            assert miss.nprobe == 1
            if not miss.found:
                assert miss.cells[0].rank > 1
                assert miss.reason.endswith(" nearest to the query; 1 was visited")
                seen.add("cells")
        worst = exact.query(query, len(index)).indices[-1]
        all_cells = Effort(nprobe=index.ann.nlist)
        assert "is not among the best" in index.explain_miss(query, worst, effort=all_cells).reason
    assert seen == {"cells"}
    reasons = {
        index.explain_miss(query, row, effort=Effort(nprobe=99, ratio_threshold=1.0)).reason
        for query in queries[:80]
        for row in exact.query(query, 10).indices
    }
    assert any(reason.startswith("ratio_threshold left it out") for reason in reasons)
    assert exact.explain_miss(queries[0], 5).cells == ()


def test_a_miss_says_how_far_its_cells_were(clusters):
    index, exact, _, queries = clusters
    effort, missed = Effort(nprobe=2), 0
    for query in queries[:30]:
        row = exact.query(query, 3000).indices[-1]
        miss = index.explain_miss(query, row, k=3000, effort=effort)
        first, second = (f"{cell.rank}{ending(cell.rank)}" for cell in miss.cells)
        if miss.found:
            assert repr(miss).startswith("found: it is among the best: its key is ")
        else:
            said = f"its cells are the {first} and {second} nearest to the query; 2 were visited"
            assert miss.reason == said
            assert repr(miss) == f"missed: {said}"
            missed += 1
    assert missed


def test_a_miss_of_buckets_says_how_likely_they_were():
    rows, queries = rows_of("gaussian", 16, 4000)
    index, exact = nseekfs.from_embeddings(rows, ann=LSH(tables=3, bits=8)), nseekfs.from_embeddings(rows)
    missed = [
        miss
        for query in queries[:20]
        for row in exact.query(query, 10).indices
        if not (miss := index.explain_miss(query, row, effort=Effort(nprobe=3))).found
    ]
    assert missed
    for miss in missed:
        assert 1 <= len(miss.cells) <= 3
        assert miss.cells[0].rank > 3
        ranks = " and ".join(f"{cell.rank}{ending(cell.rank)}" for cell in miss.cells[:2])
        bucket = "buckets are" if len(miss.cells) > 1 else "bucket is"
        assert miss.reason == f"its likeliest {bucket} the {ranks} for the query; 3 were visited"


def ending(number):
    """The suffix of an ordinal number."""
    return {11: "th", 12: "th", 13: "th"}.get(number % 100, {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th"))


def test_a_recall_says_its_interval_and_on_what_it_was_measured():
    told = nseekfs.Recall(0.95312, 0.94701, 0.95894, 600, "rows", 0.02412, 0.125)
    first = "recall 0.9531 (0.947 to 0.9589 at 95% confidence) on 600 "
    last = "; 2.41% of the rows visited, 12.5% of the answers proven exact"
    assert repr(told) == f"{first}held-out rows, for queries like them (others: recall(queries=...)){last}"
    assert repr(told._replace(measured_on="queries")) == f"{first}given queries{last}"


@pytest.mark.parametrize("kind", [nseekfs.Ann, nseekfs.Miss, nseekfs.Recall, nseekfs.RankedCell, nseekfs.TuningPoint])
def test_results_say_what_they_count(kind):
    assert not {"looked", "left", "place", "places", "kth", "probes", "points", "cells"} & {
        field for field in kind._fields if (kind, field) != (nseekfs.Miss, "cells")
    }


def test_a_share_of_the_best_score_leaves_cells_out(clusters):
    index, _, _, queries = clusters
    efforts = [Effort(nprobe=40, ratio_threshold=ratio) for ratio in (0.0, 0.5, 0.9, 1.0)]
    read = [index.recall(queries, effort=effort).visited for effort in efforts]
    assert read == sorted(read, reverse=True)
    assert read[-1] < read[0]
    assert all(len(index.query(-query, 5, effort=Effort(nprobe=9, ratio_threshold=1.0))) == 5 for query in queries[:20])


@pytest.mark.parametrize(
    ("build", "text"),
    [
        ({"ann": "hnsw"}, f"{KINDS}, got 'hnsw'"),
        ({"ann": 1}, f"{KINDS}, got 1"),
        ({"ann": IVF}, f"{KINDS}, got a type"),
        ({"ann": Effort(nprobe=3)}, f"{KINDS}, got a nseekfs.params.Effort"),
        ({"ann": "ivf", "recall": 0}, "recall: expected a number above 0, at most 1, got 0"),
        ({"ann": "ivf", "recall": float("nan")}, "recall: expected a number above 0, at most 1, got NaN"),
        ({"ann": "ivf", "recall": "high"}, "recall: expected a real number, got 'high'"),
        ({"ann": IVF(nlist=51)}, "nlist: expected a whole number from 1 to 50, the number of rows, got 51"),
        ({"ann": "lsh", "metric": "dot"}, "ann: expected 'ivf' for rows that differ in length"),
    ],
)
def test_what_cannot_be_built_is_refused(build, text):
    rows = np.random.default_rng(0).standard_normal((50, 8))
    with pytest.raises((nseekfs.InputError, nseekfs.InputTypeError), match=re.escape(text)):
        nseekfs.from_embeddings(rows, **build)
    with pytest.raises(nseekfs.InputError, match="ann: expected"):
        nseekfs.from_embeddings(rows, ann="IVF")


@pytest.mark.parametrize("keyword", ["nlist", "num_leaves", "spill", "tables", "bits"])
def test_parameters_of_a_kind_are_given_with_the_kind_only(keyword, tmp_path):
    rows = np.eye(3)
    for build in (nseekfs.from_embeddings, lambda *given, **how: nseekfs.create_index(*given, tmp_path, **how)):
        with pytest.raises(TypeError, match=keyword):
            build(rows, ann="ivf", **{keyword: 2})


@pytest.mark.parametrize(
    ("kind", "given", "text"),
    [
        (IVF, {"nlist": 0}, "nlist: expected a whole number of at least 1, got 0"),
        (IVF, {"nlist": -5}, "nlist: expected a whole number of at least 1, got -5"),
        (IVF, {"nlist": 2.5}, "nlist: expected a whole number, got 2.5"),
        (IVF, {"nlist": True}, "nlist: expected a whole number, got True"),
        (
            IVF,
            {"nlist": 2**64},
            "nlist: expected a whole number from 1 to 9223372036854775807, got 18446744073709551616",
        ),
        (IVF, {"spill": 1}, "spill: expected True or False, got 1"),
        (IVF, {"spill": None}, "spill: expected True or False, got None"),
        (IVF, {"bits": 5}, "unexpected keyword argument 'bits'"),
        (LSH, {"tables": 0}, "tables: expected a whole number from 1 to 64, got 0"),
        (LSH, {"tables": 65}, "tables: expected a whole number from 1 to 64, got 65"),
        (LSH, {"tables": "8"}, "tables: expected a whole number, got '8'"),
        (LSH, {"bits": 0}, "bits: expected a whole number from 1 to 24, got 0"),
        (LSH, {"bits": 25}, "bits: expected a whole number from 1 to 24, got 25"),
        (LSH, {"nlist": 5}, "unexpected keyword argument 'nlist'"),
        (Effort, {"nprobe": 0}, "nprobe: expected a whole number of at least 1, got 0"),
        (Effort, {"nprobe": 2.5}, "nprobe: expected a whole number, got 2.5"),
        (Effort, {"ratio_threshold": 1.5}, "ratio_threshold: expected a number from 0 to 1, got 1.5"),
        (Effort, {"ratio_threshold": -0.1}, "ratio_threshold: expected a number from 0 to 1, got -0.1"),
        (Effort, {"ratio_threshold": float("nan")}, "ratio_threshold: expected a number from 0 to 1, got nan"),
        (Effort, {"ratio_threshold": "0.5"}, "ratio_threshold: expected a real number, got '0.5'"),
        (Effort, {"reorder_k": 0}, "reorder_k: expected a whole number of at least 1, got 0"),
        (Effort, {"reorder_k": 20.0}, "reorder_k: expected a whole number, got 20.0"),
        (Effort, {"num_leaves_to_search": 3}, "unexpected keyword argument 'num_leaves_to_search'"),
        (Effort, {"recall": 0.9}, "unexpected keyword argument 'recall'"),
    ],
)
def test_parameters_are_checked_as_they_are_made(kind, given, text):
    with pytest.raises((nseekfs.InputError, TypeError), match=re.escape(text)):
        kind(**given)


def test_parameters_are_values_that_do_not_change():
    assert IVF() == IVF(nlist=None, spill=True) == pickle.loads(pickle.dumps(IVF()))
    assert LSH(tables=np.int64(3)) == LSH(tables=3) != LSH(tables=3, bits=4)
    assert len({Effort(nprobe=3), Effort(nprobe=np.uint8(3)), Effort(nprobe=3, ratio_threshold=0)}) == 2
    assert repr(Effort(nprobe=np.int32(8))) == "Effort(nprobe=8, ratio_threshold=None, reorder_k=None)"
    for made, field in ((IVF(), "nlist"), (LSH(), "bits"), (Effort(), "nprobe"), (Effort(), "num_leaves_to_search")):
        with pytest.raises(AttributeError):
            setattr(made, field, 3)


def test_words_and_parameters_mean_the_same():
    rows, queries = rows_of("clusters", 14, 3000)
    for word, given in (("ivf", IVF()), ("lsh", LSH())):
        by_word, by_value = (nseekfs.from_embeddings(rows, ann=ann) for ann in (word, given))
        assert by_word.ann == by_value.ann
        assert np.array_equal(by_word.search(queries).indices, by_value.search(queries).indices)
    assert not nseekfs.from_embeddings(rows, ann=IVF(spill=False)).ann.spill
    chosen = nseekfs.from_embeddings(rows, ann=LSH(tables=3, bits=6)).ann
    assert (chosen.tables, chosen.bits) == (3, 6)
    for ann in (None, False, np.False_):
        assert nseekfs.from_embeddings(rows[:9], ann=ann).ann == "exact"


def test_reorder_k_limits_the_rows_read_and_keeps_the_best_by_their_codes():
    rng = np.random.default_rng(4)
    made = unit(rng.standard_normal((30_300, 96)) * np.arange(1, 97) ** -0.3)
    rows, queries = made[:-300], made[-300:]
    index, exact = nseekfs.from_embeddings(rows, ann=IVF(nlist=100)), nseekfs.from_embeddings(rows)
    shares = []
    for most in (10, 12, 16, None):
        effort = Effort(nprobe=60, reorder_k=most)
        hits = [index.query(query, 10, effort=effort) for query in queries]
        assert all(len(one) == 10 for one in hits)
        read = [one.certificate.refined for one in hits]
        assert max(read) <= (most or len(rows))
        assert most is None or not any(one.certificate.exact for one in hits)
        together = index.search(queries, 10, effort=effort)
        assert together.indices.tolist() == [one.indices.tolist() for one in hits]
        assert together.keys.tobytes() == b"".join(one.keys.tobytes() for one in hits)
        shares.append(recall(index, exact, queries, effort=effort))
    assert shares == sorted(shares)
    # Ten of 30,000 rows are refined, and most of the best rows are among them.
    assert shares[-1] > shares[0] > 0.8 * shares[-1]
    everything = index.query(queries[0], 10, effort=Effort(nprobe=100, reorder_k=10))
    assert not everything.certificate.exact
    plain = nseekfs.from_embeddings(rows[:500], ann="ivf")
    with pytest.raises(nseekfs.InputError, match="reorder_k: expected it only for an index with ann='ivf' and"):
        plain.query(queries[0], effort=Effort(reorder_k=10))
    assert everything.certificate.best_bound_left == np.inf


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"recall": 1.5}, "recall: expected a number above 0, at most 1, got 1.5"),
        ({"effort": 8}, "effort: expected an nseekfs.Effort, got 8"),
        ({"effort": {"nprobe": 8}}, "effort: expected an nseekfs.Effort, got a dict"),
        ({"effort": Effort(nprobe=8), "recall": 0.9}, "effort: expected effort or recall, "),
        (
            {"effort": Effort(reorder_k=9)},
            "reorder_k: expected a whole number of at least 10, the rows asked for, got 9",
        ),
        ({"nprobe": 8}, "unexpected keyword argument 'nprobe'"),
        ({"probes": 8}, "unexpected keyword argument 'probes'"),
        ({"num_leaves_to_search": 8}, "unexpected keyword argument 'num_leaves_to_search'"),
        ({"ratio_threshold": 0.5}, "unexpected keyword argument 'ratio_threshold'"),
        ({"reorder_k": 20}, "unexpected keyword argument 'reorder_k'"),
    ],
)
def test_arguments_that_are_not_allowed_are_refused(clusters, given, text):
    index, exact, _, queries = clusters
    calls = {
        "query": lambda: index.query(queries[0], **given),
        "search": lambda: index.search(queries[:3], **given),
        "recall": lambda: index.recall(queries[:3], **given),
        "explain_miss": lambda: index.explain_miss(queries[0], 0, **given),
        "tune": lambda: index.tune(**given),
    }
    for name, call in calls.items():
        if name != "tune" or "effort" not in given:
            with pytest.raises((nseekfs.InputError, TypeError), match=re.escape(text)):
                call()
    with pytest.raises(nseekfs.InputError, match="nprobe: expected it only for an index with ann='ivf'"):
        exact.query(queries[0], effort=Effort(nprobe=3))
    with pytest.raises(nseekfs.InputError, match="ann: expected an index for approximate search"):
        exact.tune()
    with pytest.raises(nseekfs.MissingIdError, match="id: expected ids that the index has"):
        index.explain_miss(queries[0], ROWS)
    with pytest.raises(nseekfs.InputError, match="queries: expected"):
        index.recall(np.zeros((3, DIMS + 1)))


def test_an_effort_that_the_index_cannot_make_is_refused_by_its_name():
    rows, queries = rows_of("clusters", 15, 500)
    exact, lsh = (nseekfs.from_embeddings(rows, ann=ann) for ann in (None, "lsh"))
    for index, given in (
        (exact, {"nprobe": 3}),
        (exact, {"ratio_threshold": 0.5}),
        (exact, {"reorder_k": 20}),
        (lsh, {"ratio_threshold": 0.5}),
        (lsh, {"reorder_k": 20}),
        (lsh, {"nprobe": 3, "reorder_k": 20}),
    ):
        effort = Effort(**given)
        text = f"^{list(given)[-1]}: expected it only for an index with ann='ivf'"
        for ask in (
            lambda index, effort: index.query(queries[0], effort=effort),
            lambda index, effort: index.search(queries[:3], effort=effort),
            lambda index, effort: index.recall(queries[:3], effort=effort),
            lambda index, effort: index.explain_miss(queries[0], 0, effort=effort),
        ):
            with pytest.raises(nseekfs.InputError, match=text):
                ask(index, effort)
    assert lsh.query(queries[0], effort=Effort()) == lsh.query(queries[0])
    assert exact.query(queries[0], effort=Effort()) == exact.query(queries[0])


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
