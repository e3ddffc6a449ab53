"""The numbers of a comparison as texts, for the terminal, Markdown and the page alike."""

from __future__ import annotations

from collections.abc import Sequence

from mrpo.compare.comparison import Comparison, Line
from mrpo.compare.statistics import LAST_PART
from mrpo.errors import printable
from mrpo.evaluation.compare import LENGTH
from mrpo.evaluation.statistics import Interval


def headings(comparison: Comparison) -> list[str]:
    several, targets = len(comparison.groups) > 1, any(line.reached for line in comparison.lines)
    found = ["measure", "group", "seeds", "final [95 %]"]
    found += ["change [95 %]", "g", "p (Holm)", "verdict"] if several else []
    return found + (["to target"] if targets else [])


def rows(comparison: Comparison) -> list[list[str]]:
    """A row a line, as many cells as there are headings; what there is no number for is a dash."""
    several, targets = len(comparison.groups) > 1, any(line.reached for line in comparison.lines)
    found, before = [], ""
    for line in comparison.lines:
        digits = 1 if line.measure == LENGTH else 3
        known = sum(value is not None for value in line.finals.values())
        row = ["" if line.measure == before else line.measure, line.group, str(known), _cell(line.mean, digits)]
        if several:
            row += [_cell(line.difference, digits, "+"), _plain(line.effect_size, "+.2f"), _plain(line.p_holm, ".3g")]
            row += [line.verdict or "–"]
        row += [_reached(line)] if targets else []
        found.append([printable(cell) for cell in row])
        before = line.measure
    return found


def explanations(comparison: Comparison) -> list[str]:
    """What the columns are, and what speaks against taking them for more."""
    found = [
        f"Final: mean of the last {LAST_PART:.0%} of {comparison.end:,.0f} {comparison.axis}; in brackets 95 % t "
        "intervals over seeds."
    ]
    if len(comparison.groups) > 1:
        found.append(
            f"Change from {comparison.baseline}, seed by seed. g: Hedges' effect size. p: exact sign-flip test, with "
            "Holm's correction for all tests here."
        )
    if comparison.pareto:
        front = [name for name, on_it in comparison.front.items() if on_it]
        found.append(f"Pareto front of {' and '.join(comparison.pareto)}: {', '.join(front) or 'none'}.")
    return [printable(text) for text in (*found, *comparison.notes)]


def markdown(title: str, comparison: Comparison) -> str:
    """The table, what it leaves out, and the picture that lies beside it."""
    lines = [headings(comparison), ["---"] * len(headings(comparison)), *rows(comparison)]
    table = "\n".join("| " + " | ".join(_escaped(cell) for cell in line) + " |" for line in lines)
    remarks = "\n".join(f"- {text}" for text in explanations(comparison))
    return f"# {title}\n\n{table}\n\n{remarks}\n\n![Curves of every measure by group](compare.png)\n"


def _escaped(cell: str) -> str:
    return cell.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def _cell(interval: Interval | None, digits: int, sign: str = "") -> str:
    return "–" if interval is None else interval.text(digits, sign)


def _plain(value: float | None, form: str) -> str:
    return "–" if value is None else f"{value:{form}}"


def _reached(line: Line) -> str:
    if line.reached is None:
        return ""
    found: Sequence[float] = [at for at in line.reached.at if at is not None]
    share = "" if len(found) == len(line.reached.at) else f" ({len(found)} of {len(line.reached.at)} runs)"
    median = line.reached.median
    return f"{'not reached' if median is None else f'{median:,.0f} {line.reached.unit}'}{share}"
