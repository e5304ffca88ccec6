"""The `docstrings` source: what is found without importing, what becomes a document, what a pair."""

import sys
from pathlib import Path

import pytest
from collecting import documents_of, install, rows_of, run_collect

from storage.errors import DataError
from tasks.collect.config import DEFAULT_PACKAGES, CollectConfig
from tasks.collect.observe import observe_sources
from tasks.collect.packages import find_package, is_first_party

MODULE = '''
    """Graphs and what can be done with them.

    A graph has nodes and edges between the nodes.
    """

    raise SystemExit("this module must not be imported")


    class Graph(Base):
        """A graph with a name for each of the nodes."""

        def add_edge(self, u, v, *, weight=None):
            """Add an edge between two of the nodes. They are added if needed.

            Parameters
            ----------
            u : str
                The node at which the edge begins.
            """

        def _hidden(self):
            """Forget all of the edges of the graph."""


    if True:
        def is_connected(graph):
            """check if the graph is connected"""


    def twin(graph):
        """Check if the graph is connected."""


    class _Private:
        """A class that is not for the users of the module."""

        def method(self):
            """Do something that is not for the users."""
'''


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path with two packages, one of them held out."""
    folder = tmp_path / "site"
    install(
        folder,
        "graphkit",
        "1.0",
        {
            "graphkit/__init__.py": MODULE,
            "graphkit/core/paths.py": '"""Paths through a graph and their lengths."""\n',
            "graphkit/empty.py": '"""x"""\n',
            "graphkit/broken.py": 'def f(:\n    """A function that is not one."""\n',
            "graphkit/tests/test_graph.py": '"""Tests are not read at all by the stage."""\n',
            "graphkit/_vendor/other.py": '"""Copies of others are not read at all."""\n',
        },
    )
    install(folder, "outkit", "2.0", {"outkit.py": '"""A package that is held out of the training."""\n'})
    monkeypatch.syspath_prepend(str(folder))
    return folder


SOURCE = {"packages": ["graphkit", "outkit"], "heldout_packages": ["outkit"]}


def test_a_module_is_a_document_of_its_prose(home: Path, site: Path) -> None:
    artifact, summary = run_collect(home, docstrings=SOURCE, max_bad_fraction=0.5)
    documents = {document.title: document for document in documents_of(artifact)}
    assert sorted(documents) == ["graphkit", "graphkit.core.paths", "outkit"]
    assert documents["graphkit"].text.splitlines()[::2] == [
        "Graphs and what can be done with them.",
        "A graph has nodes and edges between the nodes.",
        "A graph with a name for each of the nodes.",
        "Add an edge between two of the nodes. They are added if needed.",
        "Forget all of the edges of the graph.",
        "Check if the graph is connected.",
        "A class that is not for the users of the module.",
        "Do something that is not for the users.",
    ]
    assert [documents[name].split for name in sorted(documents)] == ["train", "train", "heldout"]
    assert documents["graphkit"].license == "MIT"
    assert (summary["read"], summary["kept"], summary["dropped"], summary["quarantined"]) == (5, 3, 1, 1)
    assert rows_of(artifact, "quarantine")[0]["file"] == "graphkit/graphkit/broken.py"
    assert "graphkit" not in sys.modules


def test_declarations_are_asked_and_first_sentences_answer(home: Path, site: Path) -> None:
    artifact, summary = run_collect(home, docstrings=SOURCE, max_bad_fraction=0.5)
    assert [(row["prompt"], row["answer"]) for row in rows_of(artifact, "pairs")] == [
        ("class graph ( base )", "A graph with a name for each of the nodes."),
        ("def graph . add edge ( u , v , weight )", "Add an edge between two of the nodes."),
        ("def graph . hidden ( )", "Forget all of the edges of the graph."),
        ("def is connected ( graph )", "Check if the graph is connected."),
        ("def twin ( graph )", "Check if the graph is connected."),
        ("class private", "A class that is not for the users of the module."),
        ("def private . method ( )", "Do something that is not for the users."),
    ]
    assert {(row["group"], row["split"]) for row in rows_of(artifact, "pairs")} == {("graphkit", "train")}
    assert summary["pairs_train"] == 7


def test_an_upgraded_package_is_seen_and_a_console_script_is_not(home: Path, site: Path) -> None:
    config = CollectConfig(docstrings=SOURCE)
    before = observe_sources(config)
    assert before["docstrings/graphkit"].startswith("1.0 ")
    record = site / "graphkit-1.0.dist-info" / "RECORD"
    record.write_text(record.read_text().replace("script.py,sha256=differs", "script.py,sha256=changed"))
    assert observe_sources(config) == before
    install(site, "outkit", "2.0", {"outkit.py": '"""Another text under the same version."""\n'})
    changed = observe_sources(config)
    assert {name for name in before if before[name] != changed[name]} == {"docstrings/outkit"}


def test_a_package_that_is_missing_is_named() -> None:
    with pytest.raises(DataError, match=r"collect.docstrings.packages: no-such-package is not installed"):
        observe_sources(CollectConfig(docstrings={"packages": ["no-such-package"]}))


def test_a_package_can_be_named_by_its_module() -> None:
    assert find_package("yaml").version == find_package("PyYAML").version


@pytest.mark.parametrize(
    ("path", "own"),
    (
        ("pkg/core.py", True),
        ("pkg/core.pyi", False),
        ("pkg/_vendor/six.py", False),
        ("pkg/tests/helpers.py", False),
        ("pkg/test_core.py", False),
        ("pkg/schema_pb2.py", False),
        ("../../bin/activate.py", False),
        ("/usr/lib/x.py", False),
        ("tests.py", True),
    ),
)
def test_copies_tests_and_generated_code_are_not_part_of_a_package(path: str, own: bool) -> None:
    assert is_first_party(path) is own


def test_the_standard_library_is_split_by_module(home: Path) -> None:
    package = find_package("stdlib")
    names = {file.name for file in package.files}
    assert {"json/decoder.py", "argparse.py"} <= names
    assert not any(name.startswith(("site-packages/", "test/", "idlelib/", "lib2to3/")) for name in names)


def test_the_default_packages_are_all_here() -> None:
    observed = observe_sources(CollectConfig(docstrings={}))
    assert sorted(observed) == sorted(f"docstrings/{name}" for name in DEFAULT_PACKAGES)


def test_real_packages_give_prose_and_pairs(home: Path) -> None:
    artifact, summary = run_collect(home, docstrings={"packages": ["click", "werkzeug"]})
    assert summary["bytes"] > 100_000
    assert summary["pairs_train"] > 100
    assert summary["pairs_heldout"] > 200
    assert {(row["group"], row["split"]) for row in rows_of(artifact, "pairs")} == {
        ("click", "train"),
        ("werkzeug", "heldout"),
    }
    text = "".join(document.text for document in documents_of(artifact))
    letters = sum(character.isalpha() or character.isspace() for character in text)
    assert letters / len(text) > 0.9
