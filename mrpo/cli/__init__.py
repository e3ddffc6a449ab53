"""The commands: ``mrpo NAME …`` is the module ``mrpo/cli/NAME.py``.

To add a command, add that one file; it is found by its name. Its docstring is the command's help, and the docstring's
first line its entry in ``mrpo --help``. It defines ``app = new_app()``, and under ``@app.command(help=__doc__, …)`` a
function whose parameters typer reads; ``report`` is the shortest example. Modules that begin with an underscore are no
commands.

Whatever a user can mend is raised as an ``mrpo.errors.MrpoError``, and ``main`` shows it. Nothing slow (torch, Ray,
verl) is imported before the input was checked.
"""
