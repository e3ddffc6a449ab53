"""Published and hand-computed examples, to six digits. Shapes: N rollouts, K rewards, T tokens."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement, product
from typing import Any

import pytest
import torch
from torch import Tensor

from mrpo.advantages import AdvantageResult, compute_advantages, modulate_tokens
from mrpo.advantages.distinct import distinct_groups
from mrpo.advantages.groups import Groups
from mrpo.config.advantage import TokenModulation

pytestmark = pytest.mark.unit
SIX_DIGITS = 1e-6
HALVES = {"a": 0.5, "b": 0.5}
SQUARE: list[list[float]] = [[1, 1], [1, 0], [0, 1], [0, 0]]
TWO_GROUPS: list[list[float]] = [*SQUARE, [1, 0.5], [0, 1], [0, 0.2], [0, 0.3]]
TOOLS = [[3, 0.2, 1], [-3, 0.9, 1], [1, 0.5, 0], [-1, 0.4, 1], [2, 0.6, 1], [2, 0.1, 1], [-3, 0.2, 0], [3, 0.9, 1]]


def run(
    rewards: Sequence[Sequence[float]],
    groups: list[int] | None = None,
    lengths: list[int] | None = None,
    **options: Any,
) -> AdvantageResult:
    rewards_NK = torch.tensor(rewards, dtype=torch.float64)
    config = {"names": list("abc"[: rewards_NK.shape[1]]), **options}
    lengths_N = None if lengths is None else torch.tensor(lengths)
    return compute_advantages(rewards_NK, torch.tensor(groups or [0] * len(rewards)), config, lengths_N=lengths_N)


def kept_shares(*batch: Any, **options: Any) -> list[float]:
    """GD2PO's rho of each rollout's prompt, as the loss would get it."""
    weights_N = run(*batch, **options, query_weight="loss").loss_weights_N
    assert weights_N is not None
    return weights_N.tolist()


def close(actual_N: Tensor, expected: list[float], tolerance: float = SIX_DIGITS) -> None:
    torch.testing.assert_close(actual_N.double(), torch.tensor(expected).double(), atol=tolerance, rtol=0)


@pytest.mark.parametrize(
    ("rewards", "grpo", "no_std", "gdpo", "dvao"),
    [
        ([[0, 0], [0, 0]], 0, 0, 0, 0),
        ([[1, 0], [1, 0]], 0, 0, 0, 0),
        ([[1, 1], [1, 1]], 0, 0, 0, 0),
        ([[0, 0], [0, 1]], 0.7071, 0.5, 0.7071, 1),
        ([[1, 0], [1, 1]], 0.7071, 0.5, 0.7071, 1),
        ([[0, 0], [1, 1]], 0.7071, 1, 1.4142, 1),
        ([[0, 1], [1, 0]], 0, 0, 0, 0),
    ],
)
def test_e1_pairs_of_rollouts(rewards: list[list[float]], grpo: float, no_std: float, gdpo: float, dvao: float) -> None:
    close(run(rewards, estimator="grpo").advantages_N, [-grpo, grpo], 1e-4)
    close(run(rewards, estimator="grpo", std=False).advantages_N, [-no_std, no_std], 1e-4)
    close(run(rewards, estimator="gdpo", batch_norm="none").advantages_N, [-gdpo, gdpo], 1e-4)
    close(run(rewards, estimator="dvao").advantages_N, [-dvao, dvao], 1e-4)


@pytest.mark.parametrize(
    ("rewards", "size", "expected"),
    [
        (2, 2, [2, 3, 3, 2]),
        (2, 3, [4, 6, 6, 6]),
        (2, 4, [7, 10, 14, 11]),
        (2, 5, [11, 15, 26, 22]),
        (2, 8, [29, 36, 81, 73]),
        (1, 4, [4, 4, 4, 4]),
        (3, 4, [14, 20, 45, 37]),
        (4, 4, [23, 35, 127, 90]),
    ],
)
def test_distinct_advantages_of_binary_rewards(rewards: int, size: int, expected: list[int]) -> None:
    """Over all multisets of binary-reward rollouts, GRPO keeps the fewest apart and GDPO the most."""
    groups = list(combinations_with_replacement(list(product([0.0, 1.0], repeat=rewards)), size))
    rows = [list(row) for group in groups for row in group]
    ids = [g for g in range(len(groups)) for _ in range(size)]
    names = list("abcd"[:rewards])

    def distinct(**options: Any) -> int:
        result = run(rows, ids, names=names, batch_norm="none", **options)
        return distinct_groups(result.advantages_N[:, None], Groups.of(torch.tensor(ids)))

    counts = [distinct(estimator="grpo"), distinct(estimator="grpo", std=False)]
    assert [*counts, distinct(estimator="gdpo"), distinct(estimator="dvao")] == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"preset": "paper"}, [1.254990, 0.418330, -0.418330, -1.254990, 1.449138, 0.195575, -0.890218, -0.754494]),
        ({"preset": "verl"}, [1.195445, 0.363218, -0.469009, -1.301237, 1.388564, 0.141643, -0.938397, -0.803392]),
        ({"preset": "trl"}, [1.254896, 0.418299, -0.418299, -1.254896, 1.448990, 0.195500, -0.890095, -0.754395]),
        ({"preset": "swift"}, [1.254990, 0.418330, -0.418330, -1.254990, 1.449138, 0.195575, -0.890218, -0.754494]),
        ({"preset": "nemo"}, [1.252970, 0.382116, -0.488739, -1.359594, 0.700872, 1.157014, -0.907084, -0.737555]),
        (
            {"preset": "trl", "batch_norm": "none"},
            [1.298813, 0.432938, -0.432938, -1.298813, 1.499700, 0.202342, -0.921245, -0.780797],
        ),
    ],
    ids=["paper", "verl", "trl", "swift", "nemo", "axolotl"],
)
def test_e3_gdpo_as_six_libraries_have_it(options: dict[str, str], expected: list[float]) -> None:
    weights = {"a": 1, "b": 0.5}
    result = run(TWO_GROUPS, [0] * 4 + [1] * 4, [2, 4, 1, 3, 5, 2, 2, 6], estimator="gdpo", weights=weights, **options)
    close(result.advantages_N, expected)


def test_e4_group_of_one() -> None:
    raw = run([[3, 1]], estimator="gdpo", preset="verl", batch_norm="none")
    close(raw.advantages_N, [3.999996])
    close(run([[3, 1]], estimator="gdpo", preset="trl").advantages_N, [0])


def test_e6_conditioning_lifts_the_correct_but_long_rollout() -> None:
    rewards = [[1, 1], [1, 0], [0, 1], [0, 1]]
    plain = run(rewards, estimator="gdpo", batch_norm="none")
    close(plain.advantages_N, [1.366, -0.634, -0.366, -0.366], 1e-3)
    rule = [{"reward": "b", "requires": "a", "threshold": 1}]
    conditioned = run(rewards, estimator="gdpo", batch_norm="none", conditions=rule)
    close(conditioned.advantages_N, [2.366, 0.366, -1.366, -1.366], 1e-3)


def test_d1_dvao_between_reward_and_advantage_combination() -> None:
    close(run(SQUARE, estimator="dvao", weights=HALVES).advantages_N, [1, 0, 0, -1])
    close(run(SQUARE, estimator="grpo", weights=HALVES, ddof=0).advantages_N, [2**0.5, 0, 0, -(2**0.5)])
    close(run(SQUARE, estimator="advantage_combination", weights=HALVES, ddof=0).advantages_N, [1, 0, 0, -1])


def test_d2_partly_correlated_and_constant_rewards() -> None:
    partly = run([[1, 1], [0, 1], [0, 1], [0, 0]], estimator="dvao", weights=HALVES)
    close(partly.advantages_N, [1.154701, 0, 0, -1.154701])
    assert partly.diagnostics["advantage/dvao_kappa"] == pytest.approx((2 / 3) ** 0.5)
    constant = run([[1, 0], [0, 0], [0, 0], [0, 0]], estimator="dvao", weights=HALVES)
    close(constant.advantages_N, [1.732051, -0.577350, -0.577350, -0.577350])
    assert constant.diagnostics["reward/a/effective_weight"] == 1


def test_d3_dvao_depends_on_declared_ranges() -> None:
    rewards: list[list[float]] = [[3, 0], [1.5, 1], [-3, 1], [-3, 0]]
    raw = run(rewards, estimator="dvao", weights=HALVES, ranges={"a": [0, 1]})
    close(raw.advantages_N, [0.9046, 0.7473, -0.6687, -0.9833], 1e-4)
    assert raw.diagnostics["reward/a/effective_weight"] == pytest.approx(0.8427, abs=1e-4)
    ranged = run(rewards, estimator="dvao", weights=HALVES, ranges={"a": [-3, 3]})
    close(ranged.advantages_N, [0.0660, 0.8586, 0.0660, -0.9907], 1e-4)
    assert ranged.diagnostics["reward/a/effective_weight"] == pytest.approx(0.4716, abs=1e-4)


def test_g1_conflicting_half_of_a_group_is_dropped() -> None:
    options: dict[str, Any] = {"estimator": "gd2po", "mode": "hard", "batch_norm": "token", "preset": "verl"}
    result = run(SQUARE, lengths=[2, 3, 1, 2], **options)
    close(result.advantages_N, [0.866025, 0, 0, -0.866025])
    assert result.keep_N.tolist() == [True, False, False, True]
    assert kept_shares(SQUARE, lengths=[2, 3, 1, 2], **options) == [0.5] * 4


@pytest.mark.parametrize(
    ("options", "keep", "rho", "expected"),
    [
        ({"mode": "hard"}, [0, 0, 0, 0, 1, 0, 1, 1], [0, 0.75], [0, 0, 0, 0, 0.430998, 0, -1.269387, 0.838389]),
        ({"tau": 0.8}, [0, 0, 0, 0, 1, 0, 1, 1], [0, 0.75], [0, 0, 0, 0, 0.430998, 0, -1.269387, 0.838389]),
        (
            {"tau": 0.5},
            [0, 0, 1, 0, 1, 0, 1, 1],
            [0.25, 0.75],
            [0, 0, -0.121127, 0, 0.548913, 0, -1.457380, 1.029595],
        ),
        (
            {"tau": 0.2},
            [1, 1, 1, 0, 1, 0, 1, 1],
            [0.75, 0.75],
            [0.288761, 0.315089, -0.567394, 0, 0.597064, 0, -1.806431, 1.172911],
        ),
    ],
)
def test_g2_three_rewards(options: dict[str, Any], keep: list[int], rho: list[float], expected: list[float]) -> None:
    result = run(TOOLS, [0] * 4 + [1] * 4, [2] * 8, estimator="gd2po", preset="verl", **options)
    close(result.advantages_N, expected)
    assert result.keep_N.int().tolist() == keep
    shares = kept_shares(TOOLS, [0] * 4 + [1] * 4, [2] * 8, estimator="gd2po", preset="verl", **options)
    assert shares == [rho[0]] * 4 + [rho[1]] * 4


def test_g3_all_conflicting() -> None:
    result = run([[1, 0], [0, 1]], estimator="gd2po")
    assert result.advantages_N.tolist() == [0, 0]
    assert not result.keep_N.any()


def test_corr_grpo_at_opposite_rewards_with_and_without_floor() -> None:
    rewards: list[list[float]] = [[1, 0], [0, 0.5]]
    close(run(rewards, estimator="corr_grpo", corr_floor=0).advantages_N, [250, -250], 1e-3)
    close(run(rewards, estimator="corr_grpo", corr_floor=1).advantages_N, [0.25, -0.25])


def test_sa_mrpo_fades_saturated_rewards() -> None:
    """Saturations of .25 and .75 give weights .866 and .5 at gamma .5."""
    rewards = [[1, 1], [0, 1], [0, 1], [0, 0]]
    faded = run(rewards, estimator="sa_mrpo", gamma=0.5)
    by_hand = run(rewards, estimator="gdpo", weights={"a": 0.75**0.5, "b": 0.25**0.5})
    close(faded.advantages_N, by_hand.advantages_N.tolist())


def test_saw_weighs_by_coefficient_of_variation() -> None:
    """Means .25 and .75 of binary rewards: CV sqrt(3) and sqrt(1/3), so omega 1.5 and .5."""
    rewards = [[1, 1], [0, 1], [0, 1], [0, 0]]
    for form, plain in (("grpo", "grpo"), ("gdpo", "gdpo")):
        by_hand = run(rewards, estimator=plain, weights={"a": 1.5, "b": 0.5})
        close(run(rewards, estimator="saw", form=form).advantages_N, by_hand.advantages_N.tolist())


def test_papo_compares_process_among_the_correct() -> None:
    result = run([[1, 1], [1, 0], [0, 1], [0, 0]], estimator="papo")
    close(result.advantages_N, [1.573, 0.159, -0.866, -0.866], 1e-3)


ONE_RARE: list[list[float]] = [*SQUARE, [1, 0], [0, 0], [0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"form": "asym"}, [2.090770, 0, 0.358719, -1.732051, 1.5, -0.5, -0.5, -0.5]),
        ({"form": "sym"}, [2.090770, -0.358719, 0.358719, -2.090770, 1.5, -0.5, -0.5, -0.5]),
        ({"form": "sym", "w_max": 1.2}, [1.905256, -0.173205, 0.173205, -1.905256, 1.5, -0.5, -0.5, -0.5]),
    ],
    ids=["asym", "sym", "bounded"],
)
def test_dara_lifts_the_reward_that_varies_in_half_as_many_groups(
    options: dict[str, Any], expected: list[float]
) -> None:
    """a varies in both groups, b in one: factor sqrt(2) for b, whose advantages are sqrt(3)/2 there."""
    result = run(ONE_RARE, [0] * 4 + [1] * 4, estimator="dara", batch_norm="none", **options)
    close(result.advantages_N, expected)
    assert result.diagnostics["reward/a/dara_scale"] == 1
    assert result.diagnostics["reward/b/dara_scale"] == pytest.approx(options.get("w_max", 2**0.5))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"beta": 1}, [0.866025, -0.335780, -0.335780, -0.866025]),
        ({"beta": 2}, [0.866025, -0.534862, -0.534862, -0.866025]),
        ({"beta": 2, "weights": {"a": 3, "b": 1}}, [0.866025, -0.217754, -0.727374, -0.866025]),
    ],
    ids=["beta 1", "beta 2", "weighted"],
)
def test_rvpo_of_advantages_that_agree_and_disagree(options: dict[str, Any], expected: list[float]) -> None:
    """Advantages of +-z, z = sqrt(3)/2: where they disagree, -ln cosh(beta z) / beta."""
    close(run(SQUARE, estimator="rvpo", batch_norm="none", **options).advantages_N, expected)


@pytest.mark.parametrize(
    ("settings", "first_row"),
    [
        (TokenModulation(), [1.199932, 1.105263, 1, 0.869598]),
        (TokenModulation(mu_max=1.4, tau=0.9), [1.392984, 1.210526, 1, 0.792996]),
    ],
    ids=["decay6", "decay5"],
)
def test_m1_dynamo(settings: TokenModulation, first_row: list[float]) -> None:
    advantages_NT = torch.tensor([[1.0] * 4, [-1, -1, -1, 0]], dtype=torch.float64)
    entropy_NT = torch.tensor([[0.1, 1, 2, 0.5], [0.2, 1.5, 0.3, 9]], dtype=torch.float64)
    logp_NT = torch.tensor([[0.95, 0.5, 0.2, 0.8], [0.9, 0.3, 0.85, 0.5]], dtype=torch.float64).log()
    mask_NT = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    modulated_NT = modulate_tokens(advantages_NT, entropy_NT, logp_NT, logp_NT, mask_NT, settings)
    close(modulated_NT[0], first_row)
    close(modulated_NT[1], [-1, -1, -1, 0], 1e-3)
