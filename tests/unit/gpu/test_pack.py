"""The pack holds what is locked and used, in parts that come together again; its installer refuses others."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest

from tests.gpu import pack

pytestmark = pytest.mark.unit
PACKAGES = tomllib.loads((pack.HERE / "packages.toml").read_text())


def test_it_holds_the_locked_versions_of_what_a_run_imports() -> None:
    locked = pack.pins(pack.LOCK)
    wanted = pack.chosen(locked, PACKAGES)
    assert wanted.items() <= locked.items()
    assert {"verl", "ray", "vllm", "transformers", "tensordict", "transferqueue", "hydra-core"} <= wanted.keys()
    assert not [name for name in wanted if name.startswith("nvidia-")]
    assert "torch" not in wanted
    assert wanted["vllm"] == "0.24.0"


def test_what_is_left_out_without_being_locked_is_named() -> None:
    with pytest.raises(ValueError, match=r"not in gpu\.txt: old-one"):
        pack.chosen({"new": "1"}, {"there": ["old-one"], "not_imported": []})


def test_parts_together_are_the_files_and_the_hashes_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "PART", 100)
    monkeypatch.setattr(pack, "DICTIONARY", 1 << 16)
    site, out = tmp_path / "site", tmp_path / "out"
    (site / "a").mkdir(parents=True)
    out.mkdir()
    (site / "a" / "b.py").write_text("x = 1")
    (site / "c.so").write_bytes(hashlib.sha512(b"c").digest() * 9)
    (site / "c.so").chmod(0o755)
    parts = pack.write(site, out, ["torch"], 0)
    assert len(parts) > 1
    assert all(part.stat().st_size <= 100 for part in parts)
    (out / "whole").write_bytes(b"".join(part.read_bytes() for part in parts))
    with tarfile.open(out / "whole", "r:xz") as archive:
        archive.extractall(tmp_path / "again", filter="fully_trusted")
    assert (tmp_path / "again" / "a" / "b.py").read_text() == "x = 1"
    assert (tmp_path / "again" / "c.so").stat().st_mode & 0o111
    check = ["sha256sum", "--quiet", "--check", "SHA256SUMS"]
    assert subprocess.run(check, cwd=out).returncode == 0
    parts[1].write_bytes(parts[1].read_bytes()[::-1])
    assert subprocess.run(check, cwd=out, capture_output=True).returncode != 0


@pytest.mark.skipif(sys.version_info[:2] == (3, 12), reason="this is the Python that it is for")
def test_another_python_is_refused(tmp_path: Path) -> None:
    command = [str(pack.HERE / "install.sh"), str(tmp_path / "new"), str(pack.ROOT)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={"PYTHON": sys.executable, "PATH": "/usr/bin:/bin"}
    )
    assert (done.returncode, done.stdout) == (2, f"{sys.executable} is not Python 3.12\n")
    assert not (tmp_path / "new").exists()
