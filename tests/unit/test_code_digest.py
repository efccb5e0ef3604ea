import pytest

from penumbra.provenance import code_digest as module
from penumbra.provenance.code_digest import code_digest, modules_used


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A small package: a imports b, b imports c; d stands alone."""
    folder = tmp_path / "penumbra"
    folder.mkdir()
    for name, text in {
        "__init__": "",
        "a": "from penumbra.b import f\n",
        "b": '"""B."""\nimport penumbra.c\n\ndef f():\n    """F."""\n    return 1\n',
        "c": "X = 1\n",
        "d": "Y = 1\n",
    }.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.setattr(module, "SOURCE", tmp_path)

    def edit(name, text):
        (folder / f"{name}.py").write_text(text)
        module._parsed.cache_clear()
        module.modules_used.cache_clear()
        return code_digest(["penumbra.a"])

    edit("d", "Y = 1\n")
    yield edit
    module._parsed.cache_clear()
    module.modules_used.cache_clear()


def test_imports_are_followed(package):
    assert modules_used("penumbra.a") == {"penumbra", "penumbra.a", "penumbra.b", "penumbra.c"}


def test_only_used_code_counts(package):
    before = code_digest(["penumbra.a"])
    assert package("d", "Y = 2\n") == before
    assert package("c", "X = 2\n") != before
    assert package("c", "X = 1\n") == before


def test_comments_and_docstrings_do_not_count(package):
    before = code_digest(["penumbra.a"])
    assert package("b", '"""Other words."""\nimport penumbra.c  # why\n\n\ndef f():\n    return 1\n') == before
    assert package("b", "import penumbra.c\n\ndef f():\n    return 2\n") != before


def test_relative_imports_are_refused(package):
    with pytest.raises(SyntaxError, match="in full"):
        package("a", "from .b import f\n")


def test_a_plot_is_no_ancestor_of_training():
    used = modules_used("penumbra.training.loop")
    assert "penumbra.augmentation" in used and "penumbra.seeds" in used
    assert not any(name.startswith(("penumbra.figures", "penumbra.tables", "penumbra.metrics")) for name in used)
