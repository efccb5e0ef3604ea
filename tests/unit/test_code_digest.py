import json

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
    edit.again = lambda: edit("d", "Y = 1\n")
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
    assert {"penumbra.augmentation.affine", "penumbra.augmentation.elastic", "penumbra.seeds"} <= set(used)
    assert not any(name.startswith(("penumbra.figures", "penumbra.tables", "penumbra.metrics")) for name in used)


@pytest.fixture
def notes(package, tmp_path, monkeypatch):
    """``notes(parsed)`` is a new process that finds the notes of those before; it lists which files it has to parse."""
    file = tmp_path / "notes.json"
    analyse = module._facts

    def started(parsed):
        monkeypatch.setattr(module, "_noted", module._Noted())
        monkeypatch.setattr(module, "_facts", lambda content, path: parsed.append(path.stem) or analyse(content, path))
        module.read_notes(file)
        return file

    return started


def test_what_was_found_out_of_a_file_is_found_out_once(package, notes):
    first, second, third = [], [], []
    notes(first)
    before = package.again()
    module.write_notes()
    assert sorted(first) == ["__init__", "a", "b", "c"]
    notes(second)
    assert package.again() == before and second == []
    notes(third)
    assert package("c", "X = 2\n") != before and third == ["c"]


def test_notes_say_nothing_of_other_bytes(package, notes):
    """A file that comes to import more is followed there, whatever is noted of what it was."""
    notes([])
    package.again()
    module.write_notes()
    notes([])
    package("c", "import penumbra.d\n")
    assert "penumbra.d" in modules_used("penumbra.a")


@pytest.mark.parametrize("damage", ["", "[1", "[]", '{"x": 3}', '{"x": ["y", 3]}', "\x00"])
def test_damaged_notes_cost_time_only(package, notes, damage):
    before = package.again()
    file = notes([])
    file.write_text(damage)
    parsed = []
    notes(parsed)
    assert package.again() == before and len(parsed) == 4
    module.write_notes()
    assert json.loads(file.read_text()).keys() >= module._noted.known.keys()
