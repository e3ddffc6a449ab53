"""verl 0.9.1 calls ``logger.info(..., flush=True)`` in ``trainer_separate_async.py`` (a print turned into a log call).

It raises TypeError whenever ``actor_rollout_ref.hybrid_engine=False``. That one logger is created here, before verl
does, as a logger that accepts and drops ``flush``.
"""

import logging
from typing import Any


class _FlushTolerantLogger(logging.Logger):
    def _log(self, *args: Any, flush: bool = False, **kwargs: Any) -> None:
        super()._log(*args, **kwargs)


def apply() -> None:
    default = logging.getLoggerClass()
    logging.setLoggerClass(_FlushTolerantLogger)
    try:
        logging.getLogger("verl.trainer.ppo.v1.trainer_separate_async")
    finally:
        logging.setLoggerClass(default)
