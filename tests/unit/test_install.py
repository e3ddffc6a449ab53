"""requirements/install.sh installs what the locks name, and nothing whose hash differs."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit
SCRIPT = Path(__file__).parents[2] / "requirements" / "install.sh"


def wheel(folder: Path, name: str, version: str) -> Path:
    file = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{name}.py", "")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return file


def source(folder: Path, name: str, version: str) -> Path:
    file = folder / f"{name}-{version}.tar.gz"
    setup = f"from setuptools import setup; setup(name={name!r}, version={version!r}, py_modules=[])".encode()
    with tarfile.open(file, "w:gz") as archive:
        entry = tarfile.TarInfo(f"{name}-{version}/setup.py")
        entry.size = len(setup)
        archive.addfile(entry, io.BytesIO(setup))
    return file


def entry(requirement: str, file: Path) -> str:
    others = f"    --hash=sha256:{'0' * 64} \\\n"  # of another platform's wheel
    return f"{requirement} \\\n{others}    --hash=sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}\n"


@pytest.fixture
def locks(tmp_path: Path) -> Path:
    """A folder with the script, locks of packages that are made for it, and these in ``files``."""
    files = tmp_path / "files"
    files.mkdir()
    (tmp_path / "torch-cpu.txt").write_text(entry("torch==1+cpu", wheel(files, "torch", "1+cpu")))
    built = entry("antlr4-python3-runtime==1", source(files, "antlr4-python3-runtime", "1"))
    (tmp_path / "cpu.txt").write_text("# made\n" + built + entry("tiny==1", wheel(files, "tiny", "1")))
    shutil.copy(SCRIPT, tmp_path)
    return tmp_path


def install(locks: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PIP_")}
    environment |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(locks / "files"), "PIP_TARGET": str(locks / "installed")}
    command = [str(locks / "install.sh"), "cpu", sys.executable]
    return subprocess.run(
        command, env=environment | {"PIP_CONFIG_FILE": os.devnull}, capture_output=True, text=True, check=False
    )


def test_wheels_and_what_is_built_are_installed_by_one_of_their_hashes(locks: Path) -> None:
    done = install(locks)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {"torch.py", "tiny.py"} <= {path.name for path in (locks / "installed").iterdir()}
    assert list((locks / "installed").glob("antlr4*1*"))


@pytest.mark.parametrize("name", ["torch-1+cpu", "tiny-1"])
def test_a_file_with_another_hash_is_not_installed(locks: Path, name: str) -> None:
    [file] = (locks / "files").glob(f"{name}-*")
    with zipfile.ZipFile(file, "a") as archive:
        archive.comment = b"another"
    done = install(locks)
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert not (locks / "installed" / f"{name.partition('-')[0]}.py").exists()


def test_a_package_without_a_hash_is_refused(locks: Path) -> None:
    (locks / "cpu.txt").write_text((locks / "cpu.txt").read_text() + "tiny2==1\n")
    done = install(locks)
    assert done.returncode != 0
    assert "tiny2" in done.stderr
