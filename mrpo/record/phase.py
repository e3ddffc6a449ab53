"""The phases of a run: the names that ``events.jsonl`` gives to what a run does and how it ended.

A name, once written, stays: files of earlier runs hold it. A reader has to take a name that it doesn't know as well.
"""

from __future__ import annotations

from enum import StrEnum


class Phase(StrEnum):
    """One per kind of event. Equal to its text, so ``event["phase"] == Phase.DONE`` compares what was read.

    >>> Phase.DONE == "done", f"time/{Phase.ROLLOUT}"
    (True, 'time/rollout')
    """

    # Announcements, during which nothing is worked on.
    ATTEMPT = "attempt"
    """A start of the run, the first or a later one; its detail is the number."""
    PLAN = "plan"
    """What the run will do: steps, rewards, and the process that writes."""
    RESUME = "resume"
    """Where an attempt goes on, and each difference of configuration that was allowed."""
    SKIP_CHECKPOINT = "skip checkpoint"
    """A checkpoint that can't be used, and why."""

    # Start-up.
    PREPARE = "prepare model and data"
    CHECK_ROWS = "check rows"
    IMPORT_LIBRARIES = "import libraries"
    START_RAY = "start ray"
    START_CONTROLLER = "start controller"
    LOAD_REWARD_MODELS = "load reward models"
    LOAD_MODEL = "load model"
    LOAD_CHECKPOINT = "load checkpoint"
    RESHARD = "reshard to another number of ranks"

    # Parts of a step.
    ROLLOUT = "rollout"
    REWARD = "reward"
    OLD_LOG_PROB = "old_log_prob"
    REF_LOG_PROB = "ref_log_prob"
    VALUES = "values"
    ADVANTAGE = "advantage"
    UPDATE_CRITIC = "update_critic"
    UPDATE_ACTOR = "update_actor"
    UPDATE_WEIGHTS = "update_weights"
    SAVE = "save"
    VALIDATE = "validate"

    # After the last step.
    EXPORT = "export"
    """The trained model is written as a Hugging Face folder."""

    # Warnings, which are no part of what a run does.
    ALARM = "alarm"
    """An alarm is raised (``mrpo.record.alarms``); its detail says what was found and what to do."""
    ALARM_CLEARED = "alarm cleared"
    """What it was raised for is over."""
    TRUNCATED = "truncated responses"
    """Most responses of a step reached the limit before their end: of runs from before there was an alarm for it."""
    NO_ADVANTAGE = "no advantage"
    """No prompt group of a step has an advantage, so that it teaches nothing; its detail says by which estimator."""
    INFORMATIVE_DROPPED = "informative groups dropped"
    """Dynamic sampling throws away groups that the estimator learns from; its detail says how many."""

    # Measurements, which are no part of what a run does.
    SCORED = "scored"
    """How busy the reward workers were in a step that has ended; ``busy`` has it, a share for each of its equal parts
    (``mrpo.record.busy``)."""

    # Faults.
    ENGINE_DIED = "engine died"
    ENGINE_REPLACED = "engine replaced"
    ENGINE_NOT_REPLACED = "engine not replaced"
    STALLED = "standstill"
    """Nothing has moved for a while; its detail says what is waited for."""
    STUCK = "stuck"
    """The controller has waited for too long and ends; its detail says what for."""

    # Ends.
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"
    """The run is saved, and goes on when it is started again."""


WARNINGS = (Phase.TRUNCATED, Phase.NO_ADVANTAGE, Phase.INFORMATIVE_DROPPED)

ALARMS = (Phase.ALARM, Phase.ALARM_CLEARED)

MEASUREMENTS = (Phase.SCORED,)

ENDS = (Phase.DONE, Phase.FAILED, Phase.STOPPED)

STEP_PHASES = (
    Phase.ROLLOUT,
    Phase.REWARD,
    Phase.OLD_LOG_PROB,
    Phase.REF_LOG_PROB,
    Phase.VALUES,
    Phase.ADVANTAGE,
    Phase.UPDATE_CRITIC,
    Phase.UPDATE_ACTOR,
    Phase.UPDATE_WEIGHTS,
    Phase.SAVE,
    Phase.VALIDATE,
)
"""The parts of a step that don't overlap, in their order; each one's seconds are ``time/<phase>``."""
