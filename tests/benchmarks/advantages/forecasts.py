"""Did rewards do what their covariance with the advantage forecast of them? A table over finished runs.

``python tests/benchmarks/advantages/forecasts.py RUN... [--windows 1 5]``

For each reward of the runs' metrics.jsonl: how often it was forecast to rise, stay or fall, the mean change of its mean
after each of these, how often the forecasts were right and how often the better of always saying rises and always
saying falls was, and the correlation of covariance and change, with 95 % intervals (``mrpo.compare.forecasts``).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import yaml

from mrpo.compare.forecasts import Estimate, check, forecasts
from mrpo.record.metrics import reward_names
from mrpo.record.run_folder import RunFolder

HEADINGS = (
    "reward", "window", "forecast to rise", "stay", "fall", "right", "always the same", "gain", "correlation"
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run's folder")
    parser.add_argument("--windows", nargs="+", type=int, default=[1, 5], help="steps that means are taken over")
    given = parser.parse_args()
    folders = [RunFolder.find(run) for run in given.runs]
    print(f"{len(folders)} runs, {sum(len(folder.metrics()) for folder in folders)} steps\n")
    print("|", " | ".join(HEADINGS), "|")
    print("|" + "---|" * len(HEADINGS))
    for row in rows(folders, given.windows):
        print("|", " | ".join(row), "|")


def rows(folders: list[RunFolder], windows: list[int]) -> Iterator[list[str]]:
    """A line a reward and window."""
    runs = [(folder.metrics(), ahead_of(folder)) for folder in folders]
    for reward in reward_names([record for records, _ in runs for record in records]):
        for window in windows:
            found = check([forecasts(records, reward, window, ahead) for records, ahead in runs], window)
            said = [f"{of.steps}: {shown(of.change, '+.3f')}" if of.steps else "0" for of in found.said.values()]
            numbers = shown(found.right, ".0%"), f"{found.base:.0%}", shown(found.gain, "+.0%")
            yield [reward, str(window), *said, *numbers, shown(found.correlation, "+.2f")]


def ahead_of(folder: RunFolder) -> int:
    config = yaml.safe_load(folder.config.read_text(encoding="utf-8"))
    return int((config.get("rollout") or {}).get("ahead") or 0)


def shown(of: Estimate, form: str) -> str:
    """A number with its interval; a dash where nothing can be said."""
    return "–" if of.value != of.value else f"{of.value:{form}} ({of.low:{form}} to {of.high:{form}})"


if __name__ == "__main__":
    main()
