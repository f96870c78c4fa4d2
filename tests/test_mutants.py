"""The table of mutants still fits the code; `make mutants` tries them."""

import pytest
from mutants import ROOT, Misplaced, Mutant, read_mutants

MUTANTS = read_mutants()


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_texts_stand_in_their_files_once(mutant):
    content = (ROOT / mutant.file).read_text()
    assert content.count(mutant.text) == 1
    assert mutant.text != mutant.replacement
    compile(content.replace(mutant.text, mutant.replacement), mutant.file, "exec")
    for test in mutant.tests:
        path, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / path).read_text() if name else (ROOT / path).exists()


def test_no_mutant_is_given_twice():
    assert len({(m.file, m.text, m.replacement) for m in MUTANTS}) == len(MUTANTS)


def test_a_mutant_changes_the_copy_that_it_is_given(tmp_path):
    (tmp_path / "a.py").write_text("x = 1 + 2\n")
    Mutant("a.py", "1 + 2", "1 - 2", ()).apply(tmp_path)
    assert (tmp_path / "a.py").read_text() == "x = 1 - 2\n"


@pytest.mark.parametrize(("text", "times"), [("3", 0), ("x", 2)])
def test_texts_that_do_not_stand_there_once_are_refused(tmp_path, text, times):
    (tmp_path / "a.py").write_text("x = x\n")
    with pytest.raises(Misplaced, match=f"{times} times, not once"):
        Mutant("a.py", text, "y", ()).apply(tmp_path)
    assert (tmp_path / "a.py").read_text() == "x = x\n"
