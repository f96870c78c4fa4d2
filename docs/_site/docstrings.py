"""Docstrings as Markdown: sections become lists, roles links, examples blocks of code.

Ours are NumPy's sections with prose between and after them, which its parsers take for entries.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import griffe

import lticore
import lticore_torch

_ROLE = re.compile(r":(?:func|class|meth|mod|attr|data):`~?([^`]+)`")
_PAGE = re.compile(r"\bdocs/([\w-]+)\.md\b")
_HEADING = re.compile(r"-{3,}$")
_NAMES = re.compile(r"([*\w][\w, *]*?) : (.*)$")
#: Characters in a line of a docstring.
_ROOM = 90
_ERRORS = re.compile(r"([A-Z]\w+(?:, [A-Z]\w+)*)()$")


class Docstrings(griffe.Extension):
    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            lines = _markdown(obj.docstring.value.splitlines())
            text = _ROLE.sub(lambda match: _link(match[1], obj), "\n".join(lines))
            obj.docstring.value = _PAGE.sub(r"[\1](../\1.md)", text)


def _markdown(lines: list[str]) -> Iterator[str]:
    entry, in_example = _NAMES, False
    for before, line, after in zip(["", *lines], lines, [*lines[1:], ""], strict=False):
        if in_example and not line:
            in_example = False
            yield "```"
        if _HEADING.fullmatch(after) and line:
            entry = _ERRORS if line in ("Raises", "Warns") else _NAMES
            yield f"**{line}**"
        elif _HEADING.fullmatch(line) and before:
            yield ""
        elif found := entry.match(line):
            names = ", ".join(f"`{name}`" for name in found[1].split(", "))
            yield ""
            yield f"- {names}: {found[2]}" if found[2] else f"- {names}"
            if not _goes_on(line, after):
                yield ""
        elif line.startswith(">>> ") and not in_example:
            in_example = True
            yield "```pycon"
            yield line
        else:
            if line.startswith(("* ", "- ")) and before and not before.startswith(("* ", " ")):
                yield ""
            yield line
    if in_example:
        yield "```"


def _goes_on(line: str, after: str) -> bool:
    """Whether what stands behind a name runs into the next line: this one has no room for more."""
    word = after.split()[0] if after else ""
    is_full = len(f"{line} {word}") > _ROOM
    return is_full and (line.endswith(",") or not word[:1].isupper())


def _link(target: str, obj: griffe.Object) -> str:
    """A link to what a role names, where it is public: as a whole path, a name of this package or
    of the other, or a member of the class that the docstring belongs to."""
    name = target.removeprefix("lticore_torch.").removeprefix("lticore.")
    owner = obj if obj.is_class else obj.parent
    for package in (lticore_torch, lticore) if _is_torch(target, obj) else (lticore, lticore_torch):
        first = name.split(".")[0]
        if first in package.__all__:
            return f"[`{name}`][{package.__name__}.{first}]"
    if owner is not None and owner.is_class and name in owner.all_members:
        return f"[`{name}`][{owner.path}.{name}]"
    return f"`{name}`"


def _is_torch(target: str, obj: griffe.Object) -> bool:
    package = target.split(".")[0]
    return (package if package.startswith("lticore") else obj.package.name) == "lticore_torch"
