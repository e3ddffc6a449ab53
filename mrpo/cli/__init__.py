"""The commands: ``mrpo NAME …`` is the module ``mrpo/cli/NAME.py``.

To add a command, add that one file; it is found by its name. Its docstring is the command's help, and the docstring's
first line stands in ``mrpo --help``. It defines ``app``, and in it a function whose parameters typer reads::

    \"\"\"Count the steps of a run.\"\"\"

    from mrpo.cli._app import RunName, examples, new_app
    from mrpo.exit_code import ExitCode
    from mrpo.record.run_folder import RunFolder

    app = new_app()


    @app.command(help=__doc__, epilog=examples("mrpo count", "mrpo count runs/mine"))
    def count(run: RunName = None) -> ExitCode:
        print(len(RunFolder.find(run).metrics()))
        return ExitCode.DONE

Whatever a user can mend is raised as an ``mrpo.errors.MrpoError``, and ``main`` shows it. Nothing slow (torch, Ray,
verl) is imported before the input was checked. Modules that begin with an underscore are no commands.
"""
