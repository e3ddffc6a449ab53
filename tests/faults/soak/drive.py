"""What a soak does to a run: faults for a while, then nothing."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from mrpo.exit_code import ExitCode
from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder
from tests.e2e.commands import Command

from .sample import Sampler, wait_until_gone

OVERRIDES = [
    "rollout.replicas=2",
    "trainer.total_training_steps=1000000",
    "checkpoint.every=10",
    "trainer.test_freq=50",
    # a quarter of the rollouts: what grows, grows by the step, and the more steps there are the less of it is seen
    "data.train_batch_size=8",
    "budget.rollouts_per_prompt=4",
]
END_SECONDS = 180.0
"""How long processes may outlive their command; Ray's agents look for their head for a while."""


class Soak:
    """A run that is stopped, killed and started again."""

    def __init__(self, run: RunFolder, sampler: Sampler, say: Callable[[str], None]):
        self.run, self.sampler, self.say = run, sampler, say
        self.troubles: list[str] = []
        """What a fault must not have come to."""

    def start(self) -> tuple[Command, int]:
        """A command, and the step that it is in by now."""
        command = Command(self.run, *OVERRIDES)
        self.sampler.follow(command.process.pid)
        while not (steps := [event["step"] for event in command.events if event["phase"] == Phase.ROLLOUT]):
            assert command.process.poll() is None, command.last_words()
            time.sleep(0.1)
        return command, steps[0]

    def ended(self, command: Command, how: str, expected: int) -> None:
        """Wait for it and for all its processes."""
        code = command.ends()
        seconds, alive = wait_until_gone(self.sampler.seen, END_SECONDS)
        self.say(f"{how}: exit code {code}, all processes ended {seconds:.1f} s later")
        if code != expected:
            self.troubles.append(f"{how}: exit code {code}, not {expected}: {command.last_words()}")
        if alive:
            self.troubles.append(f"{how}: {END_SECONDS:.0f} s later these processes live: {', '.join(alive)}")

    def faults(self) -> None:
        """A reward worker, an engine and the other one are killed, the run is stopped; then its driver is killed."""
        command, first = self.start()
        command.wait_for(Phase.ROLLOUT, first + 2)
        command.processes("RewardLoopWorker")[0].kill()
        for number in range(2):
            command.wait_for(Phase.ROLLOUT, first + 4 + 4 * number)
            command.processes("vLLMHttpServer")[number].kill()
            while command.count(Phase.ENGINE_REPLACED) <= number and not command.count(Phase.FAILED):
                assert command.process.poll() is None, command.last_words()
                time.sleep(0.1)
            if command.count(Phase.FAILED):
                break  # said below
        command.wait_for(Phase.UPDATE_ACTOR, first + 12, attempt=command.count(Phase.ATTEMPT))
        command.send(signal.SIGTERM)
        self.ended(command, f"reward worker and 2 engines killed, SIGTERM in step {first + 12}", ExitCode.REQUEUE)
        if command.count(Phase.FAILED):
            self.troubles.append("a killed engine or reward worker cost an attempt")
        command, first = self.start()
        command.wait_for(Phase.UPDATE_ACTOR, first + 3)
        command.send(signal.SIGKILL)
        self.ended(command, f"the command's process killed in step {first + 3}", -signal.SIGKILL)

    def undisturbed(self, until: float) -> None:
        """Steps until ``until`` (monotonic seconds), then SIGTERM."""
        command, first = self.start()
        self.say(f"steps from {first} on, undisturbed")
        while time.monotonic() < until and command.process.poll() is None:
            time.sleep(1)
        command.send(signal.SIGTERM)
        self.ended(command, "SIGTERM", ExitCode.REQUEUE)
        if died := [event for event in command.events if event["phase"] in (Phase.FAILED, Phase.ENGINE_DIED)]:
            self.troubles.append(f"nothing was done to it, but {died}")
