"""Tracking backends after a rewind: an attempt that goes on from an earlier step logs the steps after it once more.

verl's trackers only append. TensorBoard drops what an earlier attempt has logged from a step on if the event file says
so (``purge_step`` of torch's SummaryWriter, which verl 0.9.1 doesn't set). docs/long_runs.md says what others show.
"""

from __future__ import annotations

from verl.utils.tracking import Tracking


def begin_at(tracking: Tracking, step: int) -> None:
    """Say that this attempt's first line is ``step``: what earlier ones have logged from there on is void."""
    if (backend := tracking.logger.get("tensorboard")) is not None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[attr-defined]

        writer = backend.writer.file_writer
        writer.add_event(Event(file_version="brain.Event:2"), step)
        writer.add_event(Event(session_log=SessionLog(status=SessionLog.START)), step)
