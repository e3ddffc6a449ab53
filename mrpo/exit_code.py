"""How a command's process says what happened.

======  =============  ===================================================================
code    name           meaning
======  =============  ===================================================================
0       ``DONE``       all steps are done; for other commands: all is well
1       ``FAILED``     an error, or a second Ctrl-C: look at the message before trying again
2       ``BAD_INPUT``  the command or its config is wrong, nothing was started
75      ``REQUEUE``    ended on request before the last step: run the same command again (EX_TEMPFAIL)
======  =============  ===================================================================
"""

from __future__ import annotations

import os
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every command."""

    DONE = 0
    FAILED = 1
    BAD_INPUT = 2
    REQUEUE = os.EX_TEMPFAIL
