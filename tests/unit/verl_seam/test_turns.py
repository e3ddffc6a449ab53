"""What the model wrote is told from what was put between its turns, and every turn is drawn anew."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrpo.verl_seam.turns import TurnSeeds, model_turns, of_turn, without_ends

pytestmark = pytest.mark.unit


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 9), min_size=1), st.lists(st.integers(0, 9), min_size=1)), max_size=4)
)
def test_turns_are_the_runs_of_the_models_tokens(pairs: list[tuple[list[int], list[int]]]) -> None:
    ids = [token for said, told in pairs for token in (*said, *told)]
    mask = [bit for said, told in pairs for bit in ([1] * len(said) + [0] * len(told))]
    assert model_turns(ids, mask) == [said for said, _ in pairs]


def test_a_response_that_ends_in_a_tools_text_ends_in_the_turn_before_it() -> None:
    assert model_turns([1, 2, 8, 9], [1, 1, 0, 0])[-1] == [1, 2]
    assert model_turns([8, 9], [0, 0]) == model_turns([], []) == []


def test_each_request_of_a_rollout_has_a_seed_of_its_own_that_follows_from_the_rollouts() -> None:
    class Client:
        asked: list[Any] = []  # noqa: RUF012
        other = 3

        async def generate(self, request_id: str, **request: Any) -> None:
            self.asked.append((request["sampling_params"], request["prompt_ids"]))

    async def rollout(seed: int) -> list[Any]:
        Client.asked = []
        client = TurnSeeds(Client(), seed)
        assert client.other == 3
        for turn in range(3):
            await client.generate("r", prompt_ids=[turn], sampling_params={"top_p": 1.0})
        return Client.asked

    first, again, another = (asyncio.run(rollout(seed)) for seed in (7, 7, 8))
    assert first == again
    assert first[0] == ({"top_p": 1.0, "seed": 7}, [0])
    seeds = [sampling["seed"] for sampling, _ in (*first, *another)]
    assert len({*seeds}) == 6
    assert [sampling["seed"] for sampling, _ in first] == [of_turn({"seed": 7}, turn)["seed"] for turn in range(3)]


def test_only_the_end_of_a_text_loses_its_ends() -> None:
    assert without_ends("a<e>b<e><p><e>", ["<e>", "<p>"]) == "a<e>b"
