"""The code that the documentation shows runs, and its links lead to files."""

import contextlib
import doctest
import importlib
import io
import pkgutil
import re
from pathlib import Path

import nseekfs
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    module.name
    for module in pkgutil.iter_modules(nseekfs.__path__, "nseekfs.")
    if not module.name.endswith(("_core", "__main__"))
)
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def python_blocks(page):
    """The fenced Python blocks of a page."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("name", ["nseekfs", *MODULES])
def test_the_examples_of_docstrings_run(name):
    module = importlib.import_module(name)
    assert doctest.testmod(module, verbose=False).failed == 0


@pytest.mark.parametrize("name", nseekfs.__all__)
def test_everything_public_is_documented(name):
    thing = getattr(nseekfs, name)
    if not isinstance(thing, str):
        assert thing.__doc__


def test_the_functions_show_a_runnable_example():
    finder = doctest.DocTestFinder()
    for thing in (nseekfs.from_embeddings, nseekfs.create_index, nseekfs.Index, nseekfs.Hits):
        assert any(test.examples for test in finder.find(thing)), thing


@pytest.mark.parametrize("name", ["README.md", "docs/how-it-works.md"])
def test_the_page_shows_code(name):
    assert python_blocks(ROOT / name)


@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)], ids=lambda page: page.name)
def test_the_code_of_the_page_runs(page, tmp_path, monkeypatch):
    """The blocks of a page run one after the other in one namespace, as a reader types them."""
    monkeypatch.chdir(tmp_path)
    names = {"__name__": page.stem}
    for block in python_blocks(page):
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(block, page.name, "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_links_of_the_page_lead_to_files(page):
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_the_calls_of_the_first_release_work_verbatim(tmp_path, monkeypatch):
    """The calls that the README of nseekfs 1.x shows, with its names."""
    monkeypatch.chdir(tmp_path)
    embeddings = np.random.default_rng(72).standard_normal((400, 384)).astype(np.float32)
    query_vector = embeddings[0]

    index = nseekfs.from_embeddings(embeddings, ann=False)
    results = index.query(query_vector, top_k=10)
    assert len(results) == 10
    for result in results:
        assert f"Index: {result['idx']}, Score: {result['score']:.4f}"
    assert results[0]["idx"] == 0

    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    index = nseekfs.from_embeddings(unit, ann=False, level="f32", normalized=True, method="auto")
    for query in embeddings[:3]:
        assert len(index.query(query, top_k=10)) == 10

    assert nseekfs.from_embeddings(embeddings, level="f16").level == "f16"
    assert nseekfs.from_embeddings(embeddings, level="f8").level == "f8"
    assert nseekfs.from_embeddings(embeddings, ann=True, level="f32").ann == "exact"

    index = nseekfs.from_embeddings(embeddings, output_dir="./indexes", base_name="production_v1")
    index = nseekfs.load_index("./indexes/production_v1_f32.bin")
    index = nseekfs.load_index("./indexes/production_v1_f32.bin", ann=False)
    nseekfs.create_index(embeddings, "./indexes", level="f16")
    for similarity in ("cosine", "euclidean", "dot_product"):
        assert index.query(query_vector, top_k=10, method="auto", similarity=similarity)
    assert (index.dims, index.rows, index.level, index.normalized) == (384, 400, "f32", False)
