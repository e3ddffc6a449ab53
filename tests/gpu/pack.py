"""Make a pack of what a machine with one GPU lacks: ``python -m tests.gpu.pack OUT [--wheels FOLDER]``.

Wheels of the locked versions (``requirements/gpu.txt``), for CPython 3.12 on x86-64, are unpacked as pip would install
them, without what ``packages.toml`` leaves out; vLLM's kernels keep the machine code of one architecture. All becomes
one archive in parts of at most 55 MiB, beside their hashes and ``install.sh``, which needs no network.
"""

from __future__ import annotations

import argparse
import hashlib
import lzma
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from tests.gpu.fatbin import keep_only

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LOCK = ROOT / "requirements" / "gpu.txt"
PART = 55 << 20
PYTHON = "3.12"
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(39, 4, -1)]
PLATFORMS += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"]
DICTIONARY = 128 << 20
"""Bytes in which the same machine code is found again: kernels of an extension are much alike."""


def pins(lock: Path) -> dict[str, str]:
    """The locked version of each distribution."""
    lines = (line.split()[0] for line in lock.read_text().splitlines() if line[:1].isalnum() and "==" in line)
    return dict(line.split("==") for line in lines)


def chosen(locked: dict[str, str], packages: dict[str, Any]) -> dict[str, str]:
    """What goes into the pack: all that is locked, but for what is on the machine and what isn't imported.

    Raises:
        ValueError: something is left out that isn't locked, so the list is out of date.
    """
    left_out = {*packages["there"], *packages["not_imported"]}
    if unknown := left_out - locked.keys():
        raise ValueError(f"packages.toml: not in {LOCK.name}: {', '.join(sorted(unknown))}")
    return {name: version for name, version in locked.items() if name not in left_out}


def pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments], check=True)


def download(wanted: dict[str, str], sources: Iterable[str], wheels: Path) -> None:
    """Wheels of these versions; what has none is built, which must give one for any platform."""
    for name in sources:
        pip("wheel", "-q", "--no-deps", "-w", str(wheels), f"{name}=={wanted[name]}")
    rest = [f"{name}=={version}" for name, version in wanted.items() if name not in sources]
    pip("download", "-q", "-d", str(wheels), *target(), *rest)


def target() -> list[str]:
    platforms = [f"--platform={name}" for name in PLATFORMS]
    return ["--no-deps", "--only-binary=:all:", f"--python-version={PYTHON}", "--implementation=cp", *platforms]


def unpack(wanted: dict[str, str], wheels: Path, site: Path) -> None:
    """Install into ``site`` for another Python than this one, and this package's metadata, by which verl finds it."""
    requirements = [f"{name}=={version}" for name, version in wanted.items()]
    found = ["--no-index", "--find-links", str(wheels)]
    pip("install", "-q", "--no-compile", "--target", str(site), *found, *target(), *requirements)
    with tempfile.TemporaryDirectory() as copy:  # or the checkout would be built in
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "build", "runs", "tests"), dirs_exist_ok=True)
        pip("install", "-q", "--no-compile", "--no-deps", "--target", str(site), copy)
    shutil.rmtree(site / "mrpo")  # the checkout's is used


def slim(site: Path, packages: dict[str, Any]) -> list[tuple[str, float]]:
    """Remove and blank what isn't needed. Returns what that was, with MiB."""
    gone = []
    for pattern in packages["files"]["left_out"]:
        for path in sorted(site.glob(pattern)):
            files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
            gone.append((str(path.relative_to(site)), sum(file.stat().st_size for file in files) / 2**20))
            path.unlink() if path.is_file() else shutil.rmtree(path)
    for pattern in packages["files"]["one_architecture"]:
        for path in sorted(site.glob(pattern)):
            content = bytearray(path.read_bytes())
            blanked = keep_only(content, packages["files"]["architecture"])
            path.write_bytes(content)
            gone.append((f"{path.relative_to(site)}: other architectures", blanked / 2**20))
    return gone


def in_parts(stream: BinaryIO, size: int) -> Iterator[bytes]:
    while part := stream.read(size):
        yield part


def write(site: Path, out: Path, there: Iterable[str], preset: int) -> list[Path]:
    """The archive in parts, ``SHA256SUMS``, ``there.txt`` and ``install.sh``."""
    compression = {"id": lzma.FILTER_LZMA2, "preset": preset, "dict_size": DICTIONARY}
    filters = [{"id": lzma.FILTER_X86}, compression]  # the first makes addresses in machine code alike
    archive = out / "site.tar.xz"
    with lzma.open(archive, "wb", filters=filters) as stream, tarfile.open(fileobj=stream, mode="w|") as tar:
        # Alike beside alike: all machine code, then all text.
        for file in sorted(site.rglob("*"), key=lambda file: (".so" not in file.name, file.suffix, str(file))):
            if not file.is_dir():
                tar.add(file, str(file.relative_to(site)))
    parts = []
    with archive.open("rb") as whole:
        for number, content in enumerate(in_parts(whole, PART)):
            parts.append(out / f"site.tar.xz.{number:02}")
            parts[-1].write_bytes(content)
    archive.unlink()
    sums = (f"{hashlib.sha256(part.read_bytes()).hexdigest()}  {part.name}\n" for part in parts)
    (out / "SHA256SUMS").write_text("".join(sums))
    (out / "there.txt").write_text("".join(f"{name}\n" for name in there))
    shutil.copy(HERE / "install.sh", out)
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="an empty or new folder for the pack")
    parser.add_argument("--wheels", type=Path, help="where wheels are kept for the next time; default: OUT/../wheels")
    parser.add_argument("--preset", type=int, default=6, help="xz's; 3 takes a third of the time for a tenth more")
    options = parser.parse_args()
    out = options.out.resolve()
    wheels, site = (options.wheels or out.with_name("wheels")).resolve(), out.with_name("site")
    if any(path.exists() and any(path.iterdir()) for path in (out, site)):
        sys.exit(f"pack: {out} or {site} isn't empty. Allowed: a new folder.")
    out.mkdir(parents=True, exist_ok=True)
    packages = tomllib.loads((HERE / "packages.toml").read_text())
    wanted = chosen(pins(LOCK), packages)
    download(wanted, packages["sources"], wheels)
    unpack(wanted, wheels, site)
    for what, size in slim(site, packages):
        print(f"left out: {what}, {size:.1f} MiB")
    for part in write(site, out, packages["there"], options.preset):
        print(f"{part}: {part.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
