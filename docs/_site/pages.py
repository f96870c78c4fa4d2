"""Beside the page of each tutorial its notebook."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jupytext


def on_post_build(config: Any) -> None:
    for source in sorted((Path(config.docs_dir) / "tutorials").glob("*.py")):
        notebook = Path(config.site_dir) / "tutorials" / f"{source.stem}.ipynb"
        jupytext.write(jupytext.read(source), notebook)
