"""The pages: what they name is there, what they quote is said, and what they show runs."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

import lticore
import lticore_torch
from tests.shown import check_blocks

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
LINK = re.compile(r"\]\(([^()#]*)#(lticore[\w.]+)\)")
PAGES = [x for x in sorted(DOCS.rglob("*.md")) if "```python" in x.read_text()]


def test_every_public_name_has_one_place_in_the_reference():
    pages = [path.read_text() for path in sorted((DOCS / "reference").glob("*.md"))]
    pages.append((DOCS / "errors.md").read_text())
    named = Counter(re.findall(r"^::: (\S+)$", "\n".join(pages), flags=re.MULTILINE))
    public = [f"{x.__name__}.{name}" for x in (lticore, lticore_torch) for name in x.__all__]
    assert named == Counter(public)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(DOCS).as_posix())
def test_code_of_a_page_runs_and_prints_what_is_shown(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_blocks(page.read_text(), page.name)


def test_pages_link_to_names_of_the_reference_where_they_are():
    found = []
    for page in DOCS.rglob("*.md"):
        for target, name in LINK.findall(page.read_text()):
            there = page.parent / target if target else page
            if f"::: {name}\n" not in there.read_text() + "\n":
                found.append(f"{page.name}: {target}#{name}")
    assert found == []


def test_brackets_in_docstrings_are_no_references():
    """``x[i][j]`` outside of code is a link to ``j`` for those who render the page."""
    found = []
    for module in (lticore, lticore_torch):
        for name in module.__all__:
            public = getattr(module, name)
            texts = [public, *(vars(public).values() if isinstance(public, type) else ())]
            for text in texts:
                prose = re.sub(r"``.*?``|`.*?`|>>>.*", "", getattr(text, "__doc__", None) or "")
                found += [f"{name}: {x}" for x in re.findall(r"\S*\]\[\S*", prose)]
    assert found == []


def texts_of_the_library():
    """Every text in the source, joined over lines, with … for the values in it."""
    for package in ("lticore", "lticore_torch"):
        for path in (ROOT / package).rglob("*.py"):
            yield from map(text_of, ast.walk(ast.parse(path.read_text())))


def text_of(node):
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.FormattedValue(value=ast.Call(func=ast.Name(id="counted"), args=[_, word])):
            return f"… {text_of(word)}s"
        case ast.JoinedStr(values=parts):
            return "".join(map(text_of, parts))
        case ast.BinOp(op=ast.Add(), left=first, right=second):
            return text_of(first) + text_of(second)
    return "…"


def test_quoted_messages_are_said():
    quoted = re.findall(r"^- `([^`]+)`", (DOCS / "errors.md").read_text(), flags=re.MULTILINE)
    texts = sorted(set(texts_of_the_library()))
    assert [message for message in quoted if not is_said(message, texts)] == []
    assert len(quoted) >= 30


def is_said(message, texts):
    """Whether one of the texts holds the message, whatever stands for its dots."""
    parts = message.split("…")
    pattern = re.compile(".*".join(map(re.escape, parts)))
    return any(pattern.search(x) for x in texts if all(part in x for part in parts))
