"""DynaMO's token factors: bounds, monotonicity, padding. Shapes: N rollouts, T tokens."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mrpo.advantages import modulate_tokens
from mrpo.config.advantage import TokenModulation

pytestmark = pytest.mark.unit
Tokens = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


@st.composite
def token_batches(draw: st.DrawFn) -> Tokens:
    """Advantages, entropies, log-probabilities, old ones and mask of a random mini-batch."""
    rows, width, seed = draw(st.integers(1, 5)), draw(st.integers(1, 6)), draw(st.integers(0, 10**6))
    generator = torch.Generator().manual_seed(seed)

    def uniform() -> Tensor:
        return torch.rand(rows, width, generator=generator, dtype=torch.float64)

    advantages_NT = (torch.randint(-2, 3, (rows, 1), generator=generator) / 2).double().expand(-1, width)
    logp_NT = -3 * uniform()
    old_logp_NT = logp_NT + draw(st.sampled_from([0.0, 0.5])) * (uniform() - 0.5)
    return advantages_NT, 3 * uniform(), logp_NT, old_logp_NT, (uniform() < 0.8).long()


@settings(max_examples=60, deadline=None)
@given(token_batches(), st.floats(0.1, 1), st.floats(1, 3))
def test_factors_keep_the_sign_and_stay_within_bounds(tokens: Tokens, lambda_min: float, mu_max: float) -> None:
    advantages_NT, mask_NT = tokens[0], tokens[4]
    modulated_NT = modulate_tokens(*tokens, TokenModulation(lambda_min=lambda_min, mu_max=mu_max))
    assert torch.equal(modulated_NT.sign(), advantages_NT.sign())
    factors_NT = (modulated_NT / advantages_NT)[(advantages_NT != 0) & mask_NT.bool()]
    assert bool(((factors_NT >= lambda_min - 1e-9) & (factors_NT <= mu_max + 1e-9)).all())
    worse_NT = advantages_NT < 0
    assert bool((modulated_NT[worse_NT].abs() <= advantages_NT[worse_NT].abs() + 1e-12).all())
    assert torch.equal(modulated_NT[mask_NT == 0], advantages_NT[mask_NT == 0])


@settings(max_examples=30, deadline=None)
@given(token_batches())
def test_neutral_settings_are_the_identity(tokens: Tokens) -> None:
    assert torch.equal(modulate_tokens(*tokens, TokenModulation(lambda_min=1, mu_max=1)), tokens[0])


@settings(max_examples=30, deadline=None)
@given(token_batches(), st.sampled_from([float("nan"), float("inf"), 1e9]))
def test_padding_never_reaches_other_tokens(tokens: Tokens, rubbish: float) -> None:
    advantages_NT, *others, mask_NT = tokens
    dirty = [values_NT.masked_fill(mask_NT == 0, rubbish) for values_NT in others]
    clean_NT = modulate_tokens(*tokens)
    dirty_NT = modulate_tokens(advantages_NT, dirty[0], dirty[1], dirty[2], mask_NT)
    assert torch.equal(dirty_NT, clean_NT)


def test_the_split_of_a_batch_matters_so_one_call_sees_all_of_it() -> None:
    """The released code's maximum over a micro-batch, on two rollouts."""
    advantages_NT = torch.ones(2, 3)
    logp_NT = torch.tensor([[0.9, 0.5, 0.1], [0.5, 0.5, 0.4]]).log()
    entropy_NT, mask_NT = torch.tensor([[0.1, 1.0, 2.0], [1.0, 0.9, 1.1]]), torch.ones(2, 3)
    whole_NT = modulate_tokens(advantages_NT, entropy_NT, logp_NT, logp_NT, mask_NT)
    alone_NT = modulate_tokens(advantages_NT[1:], entropy_NT[1:], logp_NT[1:], logp_NT[1:], mask_NT[1:])
    assert float((whole_NT[1:] - alone_NT).abs().max()) > 0.05


def test_nothing_unmasked_is_the_identity() -> None:
    ones_NT = torch.ones(2, 2)
    assert torch.equal(modulate_tokens(ones_NT, ones_NT, -ones_NT, -ones_NT, torch.zeros(2, 2)), ones_NT)


def test_constant_entropy_compensates_nothing_and_clipped_tokens_are_not_damped() -> None:
    advantages_NT, entropy_NT = torch.tensor([[1.0, 1.0, 1.0]]), torch.ones(1, 3)
    logp_NT = torch.tensor([[0.9, 0.5, 0.1]]).log()
    all_clipped_NT = modulate_tokens(advantages_NT, entropy_NT, logp_NT, logp_NT - 1, torch.ones(1, 3))
    torch.testing.assert_close(all_clipped_NT, advantages_NT)


def test_the_more_confident_a_token_the_more_it_is_boosted() -> None:
    entropy_NT = torch.linspace(0.1, 2, 20)[None]
    logp_NT = torch.full((1, 20), 0.5).log()
    boosted_NT = modulate_tokens(
        torch.ones(1, 20), entropy_NT, logp_NT, logp_NT, torch.ones(1, 20), TokenModulation(lambda_min=1)
    )
    assert bool((boosted_NT.diff() < 0).all())


def test_the_more_a_token_changes_the_entropy_the_more_it_is_damped() -> None:
    probability_NT = torch.linspace(0.05, 0.95, 20)[None]
    entropy_NT, ones_NT = torch.ones(1, 20), torch.ones(1, 20)
    slope_NT = probability_NT * (probability_NT.log() + entropy_NT)
    order_T = (slope_NT - slope_NT.mean()).abs()[0].argsort()
    logp_NT = probability_NT.log()
    factors_T = -modulate_tokens(-ones_NT, entropy_NT, logp_NT, logp_NT, ones_NT, TokenModulation(tau=0.5, gamma=5))[0]
    assert bool((factors_T[order_T].diff() <= 0).all())
    assert float(factors_T.max() - factors_T.min()) > 0.3


def test_modulation_carries_no_gradient() -> None:
    logp_NT = torch.full((1, 3), -0.5, requires_grad=True)
    modulated_NT = modulate_tokens(torch.ones(1, 3), torch.ones(1, 3), logp_NT, logp_NT.detach(), torch.ones(1, 3))
    assert not modulated_NT.requires_grad
