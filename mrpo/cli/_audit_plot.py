"""A picture of what each estimator makes of the same rollouts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mrpo.advantages import AdvantageResult


def plot(file: Path, results: Mapping[str, AdvantageResult]) -> None:
    """Left: the distribution of each estimator's advantages. Right: what each reward weighs in it."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np

    figure, (spread, weights) = plt.subplots(1, 2, figsize=(12, 0.45 * len(results) + 2), layout="constrained")
    estimators = list(results)[::-1]
    quantiles = [np.quantile(results[name].advantages_N.numpy(), (0.05, 0.25, 0.5, 0.75, 0.95)) for name in estimators]
    boxes = [dict(zip(("whislo", "q1", "med", "q3", "whishi"), q, strict=True)) for q in quantiles]
    spread.bxp(boxes, showfliers=False, orientation="horizontal", label=None)
    spread.set_yticks(range(1, len(estimators) + 1), estimators)
    spread.set_title("advantages: 5, 25, 50, 75, 95 %")
    names = [key.split("/")[1] for key in results["gdpo"].diagnostics if key.endswith("/effective_weight")]
    left = np.zeros(len(estimators))
    for name in names:
        share = np.array([results[e].diagnostics.get(f"reward/{name}/effective_weight", 0.0) for e in estimators])
        weights.barh(estimators, share, left=left, label=name)
        left += share
    weights.set_title("share of each reward's contribution")
    weights.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(file, dpi=150)
    plt.close(figure)
