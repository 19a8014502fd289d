"""A suite's figures as tables to read, as JSON, and as README's tables.

    python -m sora_edu.bench.report data/benchmarks/*.json data/benchmarks/fp32/*.json

prints those tables from the files that ``sora-edu bench --json`` wrote; ``--into README.md`` puts them between its
marks.
"""

import argparse
import json
import math
from pathlib import Path

from sora_edu.bench.floors import COME, FLOORS, GROUPS, LINEAR, REST, SAME, Outcome
from sora_edu.bench.rounds import Contestant, Rounds
from sora_edu.errors import InputError

SHOWN = {"met": "met", "missed": "MISSED", "undecided": "UNDECIDED", "": ""}
AIMS = {True: "aim met", False: "aim missed", None: ""}


def contestant_figures(
    contestants: list[Contestant], rounds: Rounds, memory: dict[str, int | None], calls: dict[str, int]
) -> list[dict]:
    """Times, rates and memory of each contestant, from the undisturbed rounds."""
    rates = {c.name: c.flops / rounds.median(c.name) for c in contestants if c.flops and rounds.kept}
    figures = []
    for c in contestants:
        seconds = rounds.median(c.name) if rounds.kept else None
        rate, peak = rates.get(c.name), rates.get(c.peak)
        transient = memory.get(c.name)
        figures.append(
            {
                "name": c.name,
                "parameters": c.parameters,
                "flops": c.flops,
                "unit": c.unit,
                "work": c.work,
                "seconds": seconds,
                "rate": c.work / seconds if seconds else None,  # units a second
                "flops_per_second": rate,
                "peak_share": rate / peak if rate and peak else None,
                "peak_memory": None if transient is None else transient + c.held(),
                "calls_a_round": calls.get(c.name),
                "rounds": rounds.seconds[c.name],
            }
        )
    return figures


def outcome_figures(outcome: Outcome) -> dict:
    """A comparison as JSON; what was not measured is null."""
    c = outcome.comparison
    return {
        "title": c.title,
        "group": c.group,
        "ours": c.ours,
        "theirs": c.theirs,
        "kind": "share of FLOP/s" if c.share else "time for the same work",
        "ratio": finite(outcome.ratio),
        "interval": [finite(outcome.low), finite(outcome.high)],
        "coverage": outcome.coverage,
        "rounds": outcome.rounds,
        "by_flops": outcome.expected,
        "floor": outcome.asked.floor,
        "aim": outcome.asked.aim,
        "aim_near_flops": outcome.asked.near,
        "aim_met": outcome.aim_met,
        "verdict": outcome.verdict,
        "reason": outcome.reason,
    }


def finite(value: float) -> float | None:
    """JSON knows no NaN."""
    return value if math.isfinite(value) else None


def table(rows: list[list[str]], *, left: int = 1) -> str:
    """Rows under the first one as their heading; the first ``left`` columns to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def line(row: list[str]) -> str:
        cells = zip(row, widths, strict=True)
        return "  ".join(cell.ljust(w) if i < left else cell.rjust(w) for i, (cell, w) in enumerate(cells)).rstrip()

    return "\n".join([line(rows[0]), "  ".join("-" * w for w in widths).rstrip(), *map(line, rows[1:])])


def shown(value: float | int | None, digits: int = 3, scale: float | int = 1) -> str:
    """So many digits, or a dash."""
    return "-" if value is None else f"{value * scale:.{digits}g}" if value * scale < 1000 else f"{value * scale:,.0f}"


def as_text(name: str, result: dict) -> str:
    """Both tables of a suite, and what was left out."""
    rows = [["contestant", "params M", "GFLOP", "ms", "units/s", "GFLOP/s", "of peak %", "memory MiB"]]
    for c in result["contestants"]:
        row = [shown(c["parameters"], scale=1e-6), shown(c["flops"], scale=1e-9), shown(c["seconds"], scale=1e3)]
        row += [f"{shown(c['rate'])} {c['unit']}", shown(c["flops_per_second"], scale=1e-9)]
        rows.append([c["name"], *row, shown(c["peak_share"], scale=100), shown(c["peak_memory"], scale=2**-20)])
    kept, dropped = result["rounds"]["kept"], result["rounds"]["dropped"]
    parts = [f"== {name}: {result['about']}; {kept} rounds, {dropped} dropped as disturbed", table(rows)]
    for group, about in GROUPS.items():
        chosen = [c for c in result["comparisons"] if c["group"] == group]
        parts += [f"-- {about}\n\n{table(compared(chosen))}"] if chosen else []
    parts += [f"left out: {who}: {why}" for who, why in result["failed"].items()]
    for who, figures in result["afterwards"].items():
        values = ", ".join(f"{key} {shown(value)}" for key, value in figures.items())
        parts.append(f"{who} after equal time: {values}")
    return "\n\n".join(parts)


def compared(comparisons: list[dict]) -> list[list[str]]:
    """A row for each comparison, below their heading."""
    rows = [["ours / theirs", "ratio", "interval", "by FLOPs", "floor", "aim", "", ""]]
    for c in comparisons:
        low, high = c["interval"]
        row = [shown(c["ratio"]), f"{shown(low)} to {shown(high)}", shown(c["by_flops"]), shown(c["floor"])]
        aim = f"by FLOPs ±{c['aim_near_flops']:.0%}" if c["aim_near_flops"] else shown(c["aim"])
        rows.append([c["title"], *row, aim, SHOWN[c["verdict"]], AIMS[c["aim_met"]]])
    return rows


def summary(results: dict[str, dict]) -> str:
    """One line: floors met of those there are, and the titles of the others."""
    if foreign := {result["kind"] for result in results.values()} - FLOORS.keys():
        return f"no floor for this processor ({foreign.pop()}); there are floors for {', '.join(FLOORS)}"
    judged = [(name, c) for name, result in results.items() for c in result["comparisons"] if c["verdict"]]
    if not judged:
        return f"no floor is set in {', '.join(results)}"
    met = sum(c["verdict"] == "met" for _, c in judged)
    line = f"{met} of {len(judged)} floors met"
    for kind in ("missed", "undecided"):
        titles = [f"{name}, {c['group']}: {c['title']} ({reason(c)})" for name, c in judged if c["verdict"] == kind]
        line += f"; {kind}: {'; '.join(titles)}" if titles else ""
    return line


def reason(c: dict) -> str:
    """Why a floor was not met."""
    return c["reason"] or f"{shown(c['ratio'])}, floor {shown(c['floor'])}"


def all_met(results: dict[str, dict]) -> bool:
    """Whether every floor was measured and reached."""
    return all(c["verdict"] in ("met", "") for result in results.values() for c in result["comparisons"])


# --- README's tables --------------------------------------------------------------------------------------------------

BEGIN, END = "<!-- figures of sora-edu bench -->", "<!-- end of figures -->"
NOTHING = "Not measured yet."
ORDER = ("step", "vae", "sample", "attention", "data")
HEADINGS = {
    COME: "As shipped, against the others as they come",
    SAME: "As shipped, against the others with the same switches",
    REST: "Beside these",
    LINEAR: "Not ours: fp32, eager, default AdamW, with `nn.Linear` and with `bench.linear` in both",
}


def markdown(records: list[dict]) -> str:
    """README's tables of records as ``sora-edu bench --json`` writes them: for each kind of processor its groups.

    Records from before processors had kinds are left out, since their rows were others.
    """
    kinds: dict[str, list[dict]] = {}
    for record in records:
        if "kind" in record["machine"]:
            kinds.setdefault(record["machine"]["kind"], []).append(record)
    return "\n\n".join(part for kind, found in kinds.items() for part in markdown_of(kind, found)) or NOTHING


def markdown_of(kind: str, records: list[dict]) -> list[str]:
    """Heading, machine and tables of one kind of processor."""
    machine = records[0]["machine"]
    parts = [f"### {kind}", f"{machine['processor']}, {machine['cores']} cores, torch {machine['torch']}."]
    suites = {name: suite for record in records for name, suite in record["suites"].items()}
    rows = [c for name in ORDER if name in suites for c in suites[name]["comparisons"]]
    for group, heading in HEADINGS.items():
        lines = [markdown_row(c) for c in rows if c["group"] == group]
        if lines:
            parts.append("\n".join([f"| {heading} | floor | aim | measured |", "|---|---|---|---|", *lines]))
    return parts


def markdown_row(c: dict) -> str:
    """One comparison: bold where its floor is missed."""
    share, (low, high) = c["kind"] == "share of FLOP/s", c["interval"]

    def cell(value: float | None) -> str:
        return "" if value is None else f"{100 * value:.0f} %" if share else f"{value:.2f}"

    aim = f"by FLOPs ±{c['aim_near_flops']:.0%}" if c["aim_near_flops"] else cell(c["aim"])
    ratio = f"**{cell(c['ratio'])}**" if c["verdict"] == "missed" else cell(c["ratio"])
    measured = f"{ratio} ({cell(low)} to {cell(high)})" if c["ratio"] is not None else f"not run ({c['reason']})"
    return f"| {c['title']} | {cell(c['floor'])} | {aim} | {measured} |"


def between_marks(text: str, tables: str) -> str:
    """The text with the tables in place of what is between its marks."""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise InputError(f"the file needs one line {BEGIN} and one {END}, between which the tables go")
    return f"{text[: text.index(BEGIN)]}{BEGIN}\n{tables}\n{text[text.index(END) :]}"


def main(arguments: list[str] | None = None) -> None:
    """Print the tables of some files, or put them into another."""
    parser = argparse.ArgumentParser(description="README's tables of what sora-edu bench wrote")
    parser.add_argument("files", nargs="+", type=Path, help="JSON files of sora-edu bench --json")
    parser.add_argument("--into", type=Path, help=f"a file with the lines {BEGIN} and {END}")
    options = parser.parse_args(arguments)
    tables = markdown([json.loads(path.read_text()) for path in options.files])
    if options.into is None:
        print(tables)
    else:
        options.into.write_text(between_marks(options.into.read_text(), tables))


if __name__ == "__main__":
    main()
