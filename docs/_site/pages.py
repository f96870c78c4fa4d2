"""What pages show of files elsewhere; of tutorials their links, and their notebooks beside them."""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

import jupytext
from mkdocs.structure.files import File
from mkdocs.utils import get_relative_url

_LOG = logging.getLogger("mkdocs.hooks.pages")
#: Tables that cells print keep their lines on narrow screens.
_STYLE = """<style>
[data-mime-type="text/plain"] pre { white-space: pre !important; overflow-x: auto }
</style>"""
#: Links to pages, in HTML and in Markdown.
_LINK = re.compile(r'href="([^":#]+\.(?:md|py))(#[^"]*)?"')
_MARKDOWN_LINK = re.compile(r"\]\(([^():#]+)\.(?:md|py)(#[^()]*)?\)")

#: Of the repository, and where pages find them.
_ELSEWHERE = {
    "benchmarks/results/scaling.png": "images/scaling.png",
    "benchmarks/results/gradient.png": "images/gradient.png",
    "experiments/results/hsvr.jsonl": "results/hsvr.jsonl",
    "experiments/results/compressm.jsonl": "results/compressm.jsonl",
    "experiments/results/h2.jsonl": "results/h2.jsonl",
}


def on_files(files: Any, config: Any) -> Any:
    root = Path(config.config_file_path).parent
    for source, page in _ELSEWHERE.items():
        files.append(File.generated(config, page, abs_src_path=str(root / source)))
    for source in sorted((Path(config.docs_dir) / "tutorials").glob("*.py")):
        text = _MARKDOWN_LINK.sub(r"](\1.html\2)", jupytext.writes(jupytext.read(source), "ipynb"))
        files.append(File.generated(config, f"tutorials/{source.stem}.ipynb", content=text))
    return files


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Of tutorials, whose links mkdocs does not see."""
    here = page.file
    if not here.src_uri.endswith(".py"):
        return html

    def link(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(here.src_uri), match[1]))
        target = files.get_file_from_path(path)
        if target is None:
            _LOG.warning(f"'{here.src_uri}' links to '{match[1]}', which is no page")
            return match[0]
        return f'href="{get_relative_url(target.url, here.url)}{match[2] or ""}"'

    notebook = (
        f'<p><a href="{Path(here.src_uri).stem}.ipynb" download>This page as a notebook</a></p>'
    )
    return _STYLE + _LINK.sub(link, html).replace("</h1>", f"</h1>{notebook}", 1)
