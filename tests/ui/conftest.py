"""JupyterLab on a copy of the lessons, and a headless Chromium that looks at it. Nothing outside a temporary folder
changes. SORA_UI_PICTURES=FOLDER keeps the screenshots.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest
from lesson import IDLE, NOTEBOOKS, TIMEOUT, Lesson

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"]  # fmt: skip
SETTINGS = {  # by the file's place in JUPYTER_CONFIG_DIR
    "labconfig/page_config.json": {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}},
}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    """The folder of the screenshots."""
    folder = Path(os.environ.get("SORA_UI_PICTURES") or tmp_path_factory.mktemp("pictures"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """A copy of the lessons that a test may change."""
    folder = tmp_path_factory.mktemp("lessons")
    for path in NOTEBOOKS.glob("*.ipynb"):
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium with a profile of its own."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: run `make ui`")
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip("there is no Chromium; on Debian and Ubuntu: apt install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS, timeout=TIMEOUT * 1000)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def server(browser, folder, tmp_path_factory):
    """The address of a JupyterLab that keeps all its files in a temporary folder."""
    home, port, token = tmp_path_factory.mktemp("jupyter"), free_port(), secrets.token_hex(16)
    for place, settings in SETTINGS.items():
        (home / "config" / place).parent.mkdir(parents=True, exist_ok=True)
        (home / "config" / place).write_text(json.dumps(settings))
    own = {f"JUPYTER_{kind}_DIR": str(home / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}
    own |= {"IPYTHONDIR": str(home / "ipython"), "MPLCONFIGDIR": str(home / "matplotlib"), "JUPYTER_TOKEN": token}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--expose-app-in-browser",
               "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0",
               f"--ServerApp.root_dir={folder}"]  # fmt: skip
    log = home / "log"
    with log.open("w") as sink:
        process = subprocess.Popen(command, cwd=folder, env=os.environ | own, stdout=sink, stderr=sink)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for_server(f"{address}/api/status?token={token}", process, log)
        yield f"{address}/lab/tree/{{}}?reset&token={token}"
    finally:
        process.terminate()
        process.wait(60)


def wait_for_server(address: str, process: subprocess.Popen, log: Path) -> None:
    """Return as soon as the server answers; its log tells why it does not."""
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=10):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"JupyterLab did not answer:\n{log.read_text()[-2000:]}")


@pytest.fixture
def open_lesson(server, browser, pictures):
    """A function that opens a notebook of the copied folder; its kernel ends with the test."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(60_000)  # one click; a page takes longer

    def open_(name: str) -> Lesson:
        page.goto(server.format(f"{name}.ipynb"), timeout=TIMEOUT * 1000)
        lesson = Lesson(page, name, pictures)
        lesson.wait_for(IDLE)
        return lesson

    yield open_
    page.evaluate("() => window.jupyterapp?.shell.currentWidget?.sessionContext?.shutdown()")
    page.close()


@pytest.fixture
def write_lesson(folder):
    """A function that puts a notebook of the given code cells into the copied folder."""

    def write(name: str, *sources: str) -> str:
        kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
        cells = [nbformat.v4.new_code_cell(source) for source in sources]
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), folder / f"{name}.ipynb")
        return name

    return write
