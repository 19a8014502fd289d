"""A suite's figures as tables to read, and as JSON."""

import math

from sora_edu.bench.floors import Outcome
from sora_edu.bench.rounds import Contestant, Rounds

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
        "ours": c.ours,
        "theirs": c.theirs,
        "kind": "share of FLOP/s" if c.share else "time for the same work",
        "ratio": finite(outcome.ratio),
        "interval": [finite(outcome.low), finite(outcome.high)],
        "coverage": outcome.coverage,
        "rounds": outcome.rounds,
        "by_flops": outcome.expected,
        "floor": c.floor,
        "aim": c.aim,
        "aim_near_flops": c.near,
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
    compared = [["ours / theirs", "ratio", "interval", "by FLOPs", "floor", "aim", "", ""]]
    for c in result["comparisons"]:
        low, high = c["interval"]
        row = [shown(c["ratio"]), f"{shown(low)} to {shown(high)}", shown(c["by_flops"]), shown(c["floor"])]
        aim = f"by FLOPs ±{c['aim_near_flops']:.0%}" if c["aim_near_flops"] else shown(c["aim"])
        compared.append([c["title"], *row, aim, SHOWN[c["verdict"]], AIMS[c["aim_met"]]])
    kept, dropped = result["rounds"]["kept"], result["rounds"]["dropped"]
    parts = [
        f"== {name}: {result['about']}; {kept} rounds, {dropped} dropped as disturbed",
        table(rows),
        table(compared),
    ]
    parts += [f"left out: {who}: {why}" for who, why in result["failed"].items()]
    for who, figures in result["afterwards"].items():
        values = ", ".join(f"{key} {shown(value)}" for key, value in figures.items())
        parts.append(f"{who} after equal time: {values}")
    return "\n\n".join(parts)


def summary(results: dict[str, dict]) -> str:
    """One line: floors met of those there are, and the titles of the others."""
    judged = [(name, c) for name, result in results.items() for c in result["comparisons"] if c["verdict"]]
    if not judged:
        return f"no floor is set in {', '.join(results)}"
    met = sum(c["verdict"] == "met" for _, c in judged)
    line = f"{met} of {len(judged)} floors met"
    for kind in ("missed", "undecided"):
        titles = [f"{name}: {c['title']} ({reason(c)})" for name, c in judged if c["verdict"] == kind]
        line += f"; {kind}: {'; '.join(titles)}" if titles else ""
    return line


def reason(c: dict) -> str:
    """Why a floor was not met."""
    return c["reason"] or f"{shown(c['ratio'])}, floor {shown(c['floor'])}"


def all_met(results: dict[str, dict]) -> bool:
    """Whether every floor was measured and reached."""
    return all(c["verdict"] in ("met", "") for result in results.values() for c in result["comparisons"])
