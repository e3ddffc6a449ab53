"""A wheel works: built from the sdist, installed where no checkout is in sight, it lists, plans, launches, trains."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
import yaml

from mrpo.record.run_folder import RunFolder

pytestmark = pytest.mark.timeout(1500)

ROOT = Path(__file__).parents[2]
SOURCES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "mrpo", "recipes", "launch")
BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"

CHECK = """
import importlib.metadata, json, pathlib, sys
import mrpo
from mrpo.resources import folder

plugins = [point for point in importlib.metadata.entry_points(group="verl.plugins") if point.name == "mrpo"]
print(json.dumps([mrpo.__file__, str(folder("recipes")), *(str(point.dist.locate_file("")) for point in plugins)]))
"""


def call(*command: str | Path, cwd: Path, timeout: float = 300) -> str:
    """Standard output of a command in which nothing points at the checkout; fails with all that it printed."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, check=False, cwd=cwd, env=environment
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that the sdist of a clean copy of the sources becomes."""
    folder = tmp_path_factory.mktemp("build")
    sources = folder / "sources"
    sources.mkdir()
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, sources / name)
    call(sys.executable, "-c", BUILD, "build_sdist", folder, cwd=sources)
    (sdist,) = folder.glob("*.tar.gz")
    shutil.unpack_archive(sdist, folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    call(sys.executable, "-c", BUILD, "build_wheel", folder, cwd=unpacked)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment with the wheel in it.

    What mrpo depends on comes from this environment, by a path in a .pth file: that directory's own .pth files, one of
    which makes the checkout importable, aren't read, and the new environment's packages come first.
    """
    folder = tmp_path_factory.mktemp("environment")
    call(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    packages = call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    install = ("-m", "pip", "--python", python, "--disable-pip-version-check", "install", "--no-deps", "--no-index")
    call(sys.executable, *install, wheel, cwd=folder)
    (Path(packages) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


@pytest.mark.e2e
def test_only_what_is_needed_is_in_the_wheel(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    folders = {name.partition("/")[0] for name in names}
    assert folders == {"mrpo", next(name for name in folders if name.endswith(".dist-info"))}
    assert not [name for name in names if name.endswith((".png", ".pyc"))]
    for name in ("recipes", "launch"):
        shipped = {file for file in (ROOT / name).rglob("*") if file.is_file() and "__pycache__" not in file.parts}
        expected = {f"mrpo/_resources/{file.relative_to(ROOT)}" for file in shipped if file.suffix != ".png"}
        assert expected == {entry for entry in names if entry.startswith(f"mrpo/_resources/{name}/")}
    assert {"mrpo/observe/report.html", "mrpo/py.typed"} <= set(names)
    page = {
        file for file in (ROOT / "mrpo/observe/page").rglob("*") if file.is_file() and "__pycache__" not in file.parts
    }
    assert {str(file.relative_to(ROOT)) for file in page} <= set(names)  # its scripts, libraries and their licences
    assert wheel.stat().st_size < 1_000_000


@pytest.mark.e2e
def test_the_wheel_alone_is_imported_and_is_the_plugin(python: Path, empty: Path) -> None:
    places = json.loads(call(python, "-c", CHECK, cwd=empty))
    assert len(places) == 3  # package, recipes, and one plugin
    for place in places:
        assert Path(place).is_relative_to(python.parents[1]), place


@pytest.mark.e2e
def test_it_lists_plans_and_launches_from_an_empty_folder(python: Path, empty: Path) -> None:
    mrpo = python.with_name("mrpo")
    listed = "from mrpo.config.recipes import list_recipes; print(*(entry.name for entry in list_recipes()))"
    names = call(python, "-c", listed, cwd=empty).split()
    assert names == sorted(file.parent.name for file in ROOT.glob("recipes/*/config.yaml"))
    assert "rollouts per step" in call(mrpo, "plan", "recipe=quickstart", cwd=empty)
    cluster = call(python, "-c", "from mrpo.resources import folder; print(folder('launch'))", cwd=empty).strip()
    given = ("recipe=quickstart", "run_dir=/data/runs/first", "--dry-run")
    assert "#SBATCH" in call(mrpo, "launch", "slurm", f"cluster={cluster}/slurm.yaml", *given, cwd=empty)
    rendered = call(mrpo, "launch", "kubernetes", f"cluster={cluster}/kubernetes.yaml", *given, cwd=empty)
    objects = {one["kind"]: one for one in yaml.safe_load_all(rendered)}
    assert objects.keys() == {"ConfigMap", "NetworkPolicy", "RayJob"}
    assert {"config.yaml", "rewards.py", "prepare.py"} <= objects["ConfigMap"]["data"].keys()  # the recipe goes along


@pytest.mark.e2e
def test_a_copied_recipe_is_planned(python: Path, empty: Path) -> None:
    code = "from pathlib import Path; from mrpo.config.recipes import copy_recipe; copy_recipe('code', Path('mine'))"
    call(python, "-c", code, cwd=empty)
    assert "rollouts per step" in call(python.with_name("mrpo"), "plan", "recipe=./mine/cpu_sample", cwd=empty)


@pytest.mark.proof
def test_the_quickstart_trains_two_steps(python: Path, empty: Path) -> None:
    unvalidated = ("trainer.test_freq=-1", "trainer.val_before_train=false")
    given = ("recipe=quickstart", "trainer.total_training_steps=2", f"run_dir={empty / 'run'}", *unvalidated)
    call(python.with_name("mrpo"), "train", *given, cwd=empty, timeout=1400)
    assert [record["step"] for record in RunFolder(empty / "run").metrics()] == [1, 2]
