"""The scorer and its processes: every reward on its own, in order, at its rate, gone when closed."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mrpo.config.run import RewardConfig
from mrpo.errors import ConfigError
from mrpo.rewards import process
from mrpo.rewards.outcome import Outcome
from mrpo.rewards.scorer import Scorer, log_file

pytestmark = pytest.mark.unit

SOURCE = """
import asyncio, os, sys, time
def same(prompt, response, truth, extra): return float(response == truth)
async def later(prompt, response, truth, extra):
    await asyncio.sleep(0)
    return {"score": 0.5, "why": "because"}
async def naps(prompt, response, truth, extra):
    await asyncio.sleep(0.2)
    return float(response)
def abstains(prompt, response, truth, extra): return None
def sleeps(prompt, response, truth, extra):
    time.sleep(0.4)
    return os.getpid()
def length(prompt, response, truth, extra): return len(response)
def both(prompt, response, truth, extra, where):
    with open(where, "a") as file: file.write("x")
    print("saw", response)
    if response == "bad": raise KeyError(response)
    return {"good": response == truth, "long": len(response), "seen": response}
print("loaded")
class Rated:
    rate, concurrency = 10, 2
    async def __call__(self, prompt, response, truth, extra): return time.time()
class Refuses:
    def __init__(self): raise RuntimeError("no weights here")
    def __call__(self, prompt, response, truth, extra): pass
class Dawdles:
    def __init__(self): time.sleep(60)
    def __call__(self, prompt, response, truth, extra): pass
class Once:
    def __init__(self, flag):
        if os.path.exists(flag): raise RuntimeError("only once")
        open(flag, "w").close()
    def __call__(self, prompt, response, truth, extra): os._exit(3)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rewards.py").write_text(SOURCE)
    return tmp_path


def scorer(folder: Path, *names: str, **settings: Any) -> Scorer:
    return Scorer({name: RewardConfig(function=f"rewards.py:{name}", **settings) for name in names}, folder)


async def score_all(scorer: Scorer, responses: list[str], truth: Any = "a") -> list[dict[str, Outcome]]:
    async with scorer:
        return list(await asyncio.gather(*(scorer.score([], response, truth, {}) for response in responses)))


def test_sync_and_async_functions_score_side_by_side(folder: Path) -> None:
    (outcomes,) = asyncio.run(score_all(scorer(folder, "same", "later", "abstains"), ["a"]))
    assert outcomes == {"same": Outcome(1.0), "later": Outcome(0.5), "abstains": Outcome()}


def test_a_function_that_gives_several_rewards_is_called_once_a_rollout(folder: Path) -> None:
    def given(key: str, where: str) -> RewardConfig:
        return RewardConfig(function="rewards.py:both", key=key, options={"where": str(folder / where)})

    rewards = {"long": given("long", "calls"), "apart": given("good", "others"), "good": given("good", "calls")}
    responses = [*"abcdefg", "bad"]
    found = asyncio.run(score_all(Scorer(rewards, folder), responses))
    assert (folder / "calls").read_text() == (folder / "others").read_text() == "x" * len(responses)
    assert [list(one) for one in found] == [["long", "apart", "good"]] * 8
    assert found[0] == {"long": Outcome(1.0), "apart": Outcome(1.0), "good": Outcome(1.0)}
    assert [found[0][name].details for name in rewards] == ['{"seen": "a"}', '{"long": 1, "seen": "a"}', ""]
    assert {outcome.failure for outcome in found[-1].values()} == {"exception: KeyError: 'bad'"}


def test_what_a_function_tells_is_kept_where_its_first_reward_doesnt_apply(folder: Path) -> None:
    common: dict[str, Any] = {"function": "rewards.py:both", "options": {"where": str(folder / "calls")}}
    rewards = {
        "good": RewardConfig(key="good", sources=["math"], **common),
        "long": RewardConfig(key="long", **common),
    }

    async def score() -> dict[str, Outcome]:
        async with Scorer(rewards, folder) as both:
            return await both.score([], "a", "a", {"data_source": "chat"})

    outcomes = asyncio.run(score())
    assert outcomes == {"good": Outcome(), "long": Outcome(1.0)}
    assert outcomes["good"].details == '{"seen": "a"}'


def test_what_is_printed_is_in_a_file_with_the_rewards_name(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    options = {"where": str(folder / "calls")}
    rewards = {name: RewardConfig(function="rewards.py:both", key=name, options=options) for name in ("good", "long")}
    rewards["same"] = RewardConfig(function="rewards.py:same")
    logs = folder / "run" / "rewards"
    for response in ("a", "bad"):
        asyncio.run(score_all(Scorer(rewards, folder, logs=logs), [response]))
    assert log_file(logs, ["good", "long"]).read_text() == "loaded\nsaw a\nloaded\nsaw bad\n"
    assert sorted(file.name.partition(".")[0] for file in logs.iterdir()) == ["good+long", "same"]
    assert "saw" not in "".join(capfd.readouterr())


def test_a_log_that_cant_be_written_costs_no_score(folder: Path) -> None:
    (folder / "file").write_text("")
    rewards = {"same": RewardConfig(function="rewards.py:same")}
    (outcomes,) = asyncio.run(score_all(Scorer(rewards, folder, logs=folder / "file" / "logs"), ["a"]))
    assert outcomes == {"same": Outcome(1.0)}


def test_the_first_score_starts_what_wasnt_started(folder: Path) -> None:
    async def lazily() -> dict[str, Outcome]:
        lazy = scorer(folder, "same")
        try:
            return await lazy.score([], "a", "a", {})
        finally:
            await lazy.close()

    assert asyncio.run(lazily()) == {"same": Outcome(1.0)}


def test_outcomes_are_their_callers(folder: Path) -> None:
    outcomes = asyncio.run(score_all(scorer(folder, "length", "naps", processes=2), [str(10**n) for n in range(20)]))
    assert [outcome["length"].score for outcome in outcomes] == [n + 1 for n in range(20)]
    assert [outcome["naps"].score for outcome in outcomes] == [10**n for n in range(20)]


def test_a_reward_isnt_asked_about_another_data_source(folder: Path) -> None:
    rewards = {
        "everywhere": RewardConfig(function="rewards.py:same"),
        "elsewhere": RewardConfig(function="rewards.py:sleeps", sources=["openai/gsm8k"], timeout=0.1),
    }

    async def score() -> list[dict[str, Outcome]]:
        async with Scorer(rewards, folder) as asked:
            sources: list[dict[str, Any]] = [{"data_source": "chat"}, {"data_source": "openai/gsm8k"}, {}]
            return [await asked.score([], "a", "a", extra) for extra in sources]

    other, own, unknown = asyncio.run(score())
    assert other == {"everywhere": Outcome(1.0), "elsewhere": Outcome()}
    assert list(other) == list(rewards)
    assert own["elsewhere"].cause == unknown["elsewhere"].cause == "timeout"


def test_a_large_response_passes(folder: Path) -> None:
    (outcomes,) = asyncio.run(score_all(scorer(folder, "length"), ["é" * 5_000_000]))
    assert outcomes["length"] == Outcome(5_000_000)


def test_waiting_for_a_process_doesnt_count_as_time(folder: Path) -> None:
    outcomes = asyncio.run(score_all(scorer(folder, "sleeps", timeout=1.0), ["a"] * 4))
    assert [outcome["sleeps"].failure for outcome in outcomes] == [None] * 4


def test_processes_share_the_calls(folder: Path) -> None:
    outcomes = asyncio.run(score_all(scorer(folder, "sleeps", processes=2), ["a"] * 4))
    assert len({outcome["sleeps"].score for outcome in outcomes}) == 2


def test_a_slow_reward_doesnt_delay_another(folder: Path) -> None:
    async def race() -> tuple[float, float]:
        async with scorer(folder, "same", "sleeps") as both:
            slow = asyncio.create_task(both.score([], "a", "a", {}))
            start = time.monotonic()
            await asyncio.sleep(0)
            assert (await both.pools["same",].submit(pickle.dumps(([], "a", "a", {})))) == [Outcome(1.0)]
            fast = time.monotonic() - start
            await slow
            return fast, time.monotonic() - start

    fast, slow = asyncio.run(race())
    assert fast < slow
    assert slow >= 0.4


def test_a_functions_own_rate_is_kept(folder: Path) -> None:
    outcomes = asyncio.run(score_all(scorer(folder, "Rated"), ["a"] * 5))
    times = [outcome["Rated"].score or 0.0 for outcome in outcomes]
    assert max(times) - min(times) >= 0.35


def test_what_cant_be_loaded_is_reported_once_by_name(folder: Path) -> None:
    rewards = {
        "fine": RewardConfig(function="rewards.py:same"),
        "weights": RewardConfig(function="rewards.py:Refuses", processes=2),
        "typo": RewardConfig(function="exact_mach"),
        "options": RewardConfig(function="rewards.py:same", options={"x": 1}),
    }
    with pytest.raises(ConfigError) as raised:
        asyncio.run(score_all(Scorer(rewards, folder), []))
    text = str(raised.value)
    assert "rewards.weights: " in text
    assert text.count("RuntimeError: no weights here") == 1
    assert "rewards.typo: unknown reward function 'exact_mach'. Did you mean 'exact_match'?" in text
    assert "rewards.options: reward function 'rewards.py:same': got an unexpected keyword argument 'x'" in text
    assert "rewards.fine" not in text


def test_what_cant_be_loaded_again_fails_without_a_storm_of_processes(folder: Path) -> None:
    rewards = {"once": RewardConfig(function="rewards.py:Once", options={"flag": str(folder / "flag")})}
    outcomes = asyncio.run(score_all(Scorer(rewards, folder), ["a"] * 3))
    assert outcomes[0]["once"].failure == "crash: the process that scored it exited with code 3"
    for outcome in outcomes[1:]:
        assert str(outcome["once"].failure).startswith("crash: its function can't be loaded: ")
        assert "only once" in str(outcome["once"].failure)


def test_what_never_finishes_loading_is_reported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "MAX_LOADING", 0.5)
    with pytest.raises(ConfigError, match=r"rewards\.Dawdles: .* its function wasn't loaded within 0\.5 s"):
        asyncio.run(score_all(scorer(folder, "Dawdles"), []))


def test_an_interpreter_that_isnt_there_is_reported(folder: Path) -> None:
    rewards = {"same": RewardConfig(function="rewards.py:same")}
    with pytest.raises(ConfigError, match=r"rewards\.same: no process can be started: .*/absent/python"):
        asyncio.run(score_all(Scorer(rewards, folder, python="/absent/python"), []))


def test_arguments_that_cant_be_sent_are_a_failure(folder: Path) -> None:
    (outcomes,) = asyncio.run(score_all(scorer(folder, "same"), ["a"], truth=lambda: None))
    assert outcomes["same"].cause == "exception"


def test_a_caller_that_gives_up_costs_no_one_else(folder: Path) -> None:
    async def give_up() -> Outcome:
        async with scorer(folder, "sleeps") as one:
            calls = [asyncio.create_task(one.score([], "a", "a", {})) for _ in range(3)]
            await asyncio.sleep(0.1)
            calls[0].cancel()
            calls[1].cancel()
            return (await calls[2])["sleeps"]

    assert asyncio.run(give_up()).failure is None


def test_closing_ends_the_processes_and_what_waits(folder: Path) -> None:
    async def close_early() -> tuple[list[dict[str, Outcome]], list[int]]:
        one = scorer(folder, "sleeps")
        await one.start()
        processes = [process.popen.pid for process in one.pools["sleeps",].processes]
        calls = [asyncio.create_task(one.score([], "a", "a", {})) for _ in range(2)]
        await asyncio.sleep(0.1)
        await one.close()
        return [*(await asyncio.gather(*calls)), await one.score([], "a", "a", {})], processes

    outcomes, processes = asyncio.run(close_early())
    assert [outcome["sleeps"].failure for outcome in outcomes] == ["crash: the scorer is closed"] * 3
    assert not any(Path(f"/proc/{process}").exists() for process in processes)


def test_the_processes_die_with_their_parent(folder: Path) -> None:
    program = """
import asyncio, sys
from pathlib import Path
from mrpo.config.run import RewardConfig
from mrpo.rewards.scorer import Scorer, log_file

async def main():
    scorer = Scorer({"slow": RewardConfig(function="rewards.py:sleeps")}, Path(sys.argv[1]))
    print(int((await scorer.score([], "a", "a", {}))["slow"].score), flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        os.kill(parent.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while running(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not running(child)


def running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
