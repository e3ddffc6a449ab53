"""Ray's agent of a node, as it is where only ``ray`` and not ``ray[default]`` is installed: ``python minimal_agent.py
AGENT.py ARGUMENTS``.

The full one serves metrics and takes jobs over HTTP, for a web page that a run's node doesn't have, and complains once
a second that it finds none.
"""

import runpy
import sys

if __name__ == "__main__":
    sys.argv = [*sys.argv[1:], "--minimal"]
    sys.modules["ray.dashboard.optional_deps"] = None  # type: ignore[assignment]
    runpy.run_path(sys.argv[0], run_name="__main__")
