"""What pyproject.toml can't say: the folders ``recipes`` and ``launch``, beside the package, belong in its wheel."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithFolders(build_py):
    """Copies the folders to where ``mrpo.resources`` looks for them. An editable install reads them where they are."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib, "mrpo", "_resources")
        shutil.rmtree(target, ignore_errors=True)  # of an earlier build
        for name in ("recipes", "launch"):
            shutil.copytree(name, target / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc", "*.png"))


setup(cmdclass={"build_py": BuildWithFolders})
