"""What pages show of files elsewhere, and beside the page of each tutorial its notebook."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jupytext
from mkdocs.structure.files import File

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
    return files


def on_post_build(config: Any) -> None:
    for source in sorted((Path(config.docs_dir) / "tutorials").glob("*.py")):
        notebook = Path(config.site_dir) / "tutorials" / f"{source.stem}.ipynb"
        jupytext.write(jupytext.read(source), notebook)
