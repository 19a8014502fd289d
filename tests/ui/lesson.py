"""A notebook in JupyterLab, driven as a reader drives it: by its menu, its cells and what they show."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it may be missing, and then the tests skip
    from playwright.sync_api import Locator, Page

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
TIMEOUT = 300  # seconds; a busy machine is slow
CELLS = "jupyterapp.shell.currentWidget.content.widgets"
SUMMARY = f"""() => {CELLS}.filter(c => c.model.type === 'code').map(c => ({{
    source: c.model.sharedModel.source, count: c.model.executionCount, running: c.model.executionState === 'running',
    errors: c.model.outputs.toJSON().filter(o => o.output_type === 'error').map(o => `${{o.ename}}: ${{o.evalue}}`),
}}))"""
IDLE = "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
DONE = f"() => {CELLS}.every(c => c.model.type !== 'code' || c.model.executionState !== 'running')"
DIGEST = """async images => {
    const digests = [];
    for (const image of images) {
        const bytes = await (await fetch(image.src)).arrayBuffer();
        const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
        digests.push(Array.from(digest, byte => byte.toString(16).padStart(2, '0')).join(''));
    }
    return digests;
}"""


class Lesson:
    """One notebook, open in the browser."""

    def __init__(self, page: Page, name: str, pictures: Path):
        self.page, self.name, self.pictures = page, name, pictures

    def wait_for(self, condition: str, seconds: float = TIMEOUT) -> None:
        """Wait until a JavaScript function answers true."""
        self.page.wait_for_function(condition, timeout=seconds * 1000, polling=500)

    def cells(self) -> list[dict]:
        """Source, execution count and errors of every code cell."""
        return self.page.evaluate(SUMMARY)

    def errors(self) -> list[str]:
        """What went wrong, in the cells' order."""
        return [error for cell in self.cells() for error in cell["errors"]]

    def clear(self) -> None:
        """Drop the kept outputs, so that what is there later is new."""
        self.page.evaluate("() => jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")

    def run_all(self) -> None:
        """Run > Run All Cells, as a reader does it, until something runs; then wait for the last cell."""
        self.wait_for(IDLE)
        menu = self.page.locator("#jp-MainMenu .lm-MenuBar-item").get_by_text("Run", exact=True)
        for _attempt in range(5):  # a click before the kernel is ready is dropped
            menu.click()
            self.page.locator(".lm-Menu-item[data-command='runmenu:run-all']").click()
            for _second in range(20):
                if any(cell["running"] or cell["count"] for cell in self.cells()):
                    self.wait_for(DONE)
                    return
                self.page.wait_for_timeout(1000)
        raise AssertionError(f"{self.name}: Run All was dropped five times")

    def output(self, text: str, number: int = 0) -> Locator:
        """The output, brought into view, of the cell that holds ``text``, or of this number among several."""
        sources = self.page.evaluate(
            f"() => {CELLS}.map(c => c.model.type === 'code' ? c.model.sharedModel.source : '')"
        )
        index = [i for i, source in enumerate(sources) if text in source][number]
        show = "async i => { const n = jupyterapp.shell.currentWidget.content; await n.scrollToItem(i, 'start'); }"
        self.page.evaluate(show, index)
        output = self.page.locator(f".jp-Notebook .jp-Cell[data-windowed-list-index='{index}'] .jp-Cell-outputArea")
        output.wait_for()
        output.scroll_into_view_if_needed()
        return output

    def digests(self, output: Locator) -> list[str]:
        """The SHA-256 of every picture in an output."""
        return output.locator("img").evaluate_all(DIGEST)

    def screenshot(self, what: str, output: Locator | None = None) -> None:
        """Keep what a reader sees now: the window, or one output."""
        (output or self.page).screenshot(path=self.pictures / f"{self.name}_{what}.png")
