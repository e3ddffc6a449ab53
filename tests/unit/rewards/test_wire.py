"""What a reward worker sends is what the controller reads: a score, no score, or a failure with its cause."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrpo.rewards.outcome import Outcome
from mrpo.rewards.wire import DETAILS, FAILURES, decode, details_of, encode, failures_of, scores_of

pytestmark = pytest.mark.unit

OUTCOMES = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(Outcome),
    st.dictionaries(st.text(), st.text(), min_size=1).map(lambda entries: Outcome(0.5, details=json.dumps(entries))),
    st.just(Outcome()),
    st.text(min_size=1).map(lambda text: Outcome.failed("exception", text)),
)


# Among them names that verl's own fields have.
@given(
    st.dictionaries(st.sampled_from(["correct", "reward", "acc", "uid", "entropy", "score_x"]), OUTCOMES, min_size=1)
)
def test_what_is_decoded_is_what_was_encoded(outcomes: dict[str, Outcome]) -> None:
    sent = encode(outcomes)
    assert not sent.keys() & {"reward", "acc", "uid", "entropy"}
    fields, names = decode({**sent, "uid": "a", "reward": 3.0}), list(outcomes)
    assert fields.keys() == {*names, FAILURES, DETAILS}
    for score, outcome in zip(scores_of(fields, names, "a_0_0"), outcomes.values(), strict=True):
        assert math.isnan(score) if outcome.score is None else score == outcome.score
    assert failures_of(fields) == {name: o.failure for name, o in outcomes.items() if o.failure is not None}
    assert details_of(fields) == {name: json.loads(o.details) for name, o in outcomes.items() if o.details}


def test_an_absent_reward_is_an_error_and_not_a_missing_score() -> None:
    with pytest.raises(KeyError, match="rollout a_0_0 has no reward 'format'; it has \\['correct'"):
        scores_of({"correct": None, FAILURES: ""}, ["correct", "format"], "a_0_0")


def test_it_needs_neither_verl_nor_torch() -> None:
    code = "import sys, mrpo.rewards.wire; print({'torch', 'ray', 'verl'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
