"""``mrpo COMMAND …``: one small module of this package a command."""

from __future__ import annotations

import importlib
import sys

from mrpo.errors import ConfigError, unknown_name
from mrpo.registry import module_names


def main() -> None:
    """Entry point. Exit code 2: the command line or a configuration is wrong, and nothing was started."""
    commands = [name for name in module_names("mrpo.cli") if name != "main"]
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        for name in commands:
            summary = (importlib.import_module(f"mrpo.cli.{name}").__doc__ or "").splitlines()[0]
            print(f"  {summary}")
        sys.exit(0 if arguments else 2)
    try:
        if arguments[0] not in commands:
            raise unknown_name("command", arguments[0], commands)
        code = importlib.import_module(f"mrpo.cli.{arguments[0]}").main(arguments[1:])
    except ConfigError as error:
        print(f"mrpo: {error}", file=sys.stderr)
        code = 2
    sys.exit(code)


if __name__ == "__main__":
    main()
