"""Whatever a reward is called, its validation metrics are its own, and the sum's are the sum's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrpo.record.metrics import name_part
from mrpo.rewards.wire import SCORE
from mrpo.verl_seam.validation import renamed

pytestmark = pytest.mark.unit

STATISTICS = st.sampled_from(["mean@1", "std@4", "best@4/mean", "maj@2/std"])


@given(
    st.text("ab/-%@ü", min_size=1),
    st.sampled_from(["reward", "acc", "score_x", "num_turns", "uid"]),
    STATISTICS,
)
def test_a_rewards_metrics_have_its_name(source: str, reward: str, statistic: str) -> None:
    of_reward, of_sum = f"val-aux/{source}/{SCORE}{reward}/{statistic}", f"val-core/{source}/reward/{statistic}"
    assert renamed({of_reward: 1, of_sum: 2}) == {
        f"val-aux/{name_part(source)}/{reward}/{statistic}": 1,
        f"val-core/{name_part(source)}/total/{statistic}": 2,
    }


def test_turns_are_no_data_source() -> None:
    assert renamed({"val-aux/num_turns/mean": 2.0}) == {"num_turns/mean": 2.0}
    of_a_source = {"val-aux/num_turns/score_x/mean@1": 2.0}
    assert renamed(of_a_source) == {"val-aux/num_turns/x/mean@1": 2.0}
