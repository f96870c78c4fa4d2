"""The reference names what is public, once."""

import re
from collections import Counter
from pathlib import Path

import lticore
import lticore_torch

DOCS = Path(__file__).parents[1] / "docs"


def test_every_public_name_has_one_place_in_the_reference():
    pages = [path.read_text() for path in sorted((DOCS / "reference").glob("*.md"))]
    pages.append((DOCS / "errors.md").read_text())
    named = Counter(re.findall(r"^::: (\S+)$", "\n".join(pages), flags=re.MULTILINE))
    public = [f"{x.__name__}.{name}" for x in (lticore, lticore_torch) for name in x.__all__]
    assert named == Counter(public)
