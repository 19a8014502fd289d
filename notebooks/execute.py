"""Run the notebooks from top to bottom and keep their pictures, without anything that changes from run to run.

    python notebooks/execute.py                     all lessons
    python notebooks/execute.py 02_image_patches    one lesson

Two runs in a row give the same bytes: no timings, no widget ids, no version of Python; printed text in one piece.
Where an interactive has a static picture, the picture is what stays.
"""

import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent
WIDGET = "application/vnd.jupyter.widget-view+json"
TIMEOUT = 1800  # seconds a cell, so that no run hangs for ever; no slow machine comes near it


def execute(notebook: nbformat.NotebookNode, folder: Path = FOLDER) -> nbformat.NotebookNode:
    """Run every cell in a fresh kernel; an exception in a cell stops the run."""
    os.environ.setdefault("PYTHONHASHSEED", "0")
    place = {"metadata": {"path": str(folder)}}
    return NotebookClient(notebook, timeout=TIMEOUT, record_timing=False, resources=place).execute()


def merge_streams(outputs: list[dict]) -> list[dict]:
    """Join printed text that arrived in several pieces: where it is cut depends on the clock."""
    merged = []
    for output in outputs:
        last = merged[-1] if merged else {}
        if output["output_type"] == "stream" and last.get("name") == output["name"]:
            last["text"] += output["text"]
        else:
            merged.append(output)
    return merged


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Drop what differs between machines and runs; number the cells' ids by position."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook["metadata"] = nbformat.from_dict({"kernelspec": kernel, "language_info": {"name": "python"}})
    for number, cell in enumerate(notebook["cells"]):
        cell["id"] = f"cell-{number:02d}"
        tags = cell["metadata"].get("tags")
        cell["metadata"] = nbformat.from_dict({"tags": tags} if tags else {})
        if cell["cell_type"] == "code":
            cell["outputs"] = merge_streams(cell["outputs"])
            for output in cell["outputs"]:
                output.get("data", {}).pop(WIDGET, None)  # its model lives only as long as the kernel
                if "metadata" in output:
                    output["metadata"] = nbformat.from_dict({})
    return notebook


def main() -> None:
    """Execute and clean the named notebooks, or all; the file changes only after the whole run succeeded."""
    wanted = sys.argv[1:] or [path.stem for path in sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))]
    for path in (FOLDER / f"{Path(name).stem}.ipynb" for name in wanted):
        start = time.monotonic()
        notebook = clean(execute(nbformat.read(path, as_version=4)))
        nbformat.write(notebook, path)
        print(f"{path.name}: {time.monotonic() - start:.0f} s, {path.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    main()
