"""The folder of downloaded files: filled by `build.py fetch` alone, checked at every use."""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path

from building.errors import BuildError
from building.pins import PackedPin, Pin

PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:2.8"


def cache_folder(given: str | None) -> Path:
    """`--cache`, else FACEKD_ANDROID_CACHE, else ~/.cache/facekd/android."""
    return Path(given or os.environ.get("FACEKD_ANDROID_CACHE") or Path.home() / ".cache" / "facekd" / "android")


def fetch(pins: Iterable[Pin], folder: Path) -> None:
    """Downloads what is missing with Maven (which knows the user's mirrors) and checks each file's sha256.

    Raises:
        BuildError: no Maven, no such file, or another content than pinned. A file that fails is not kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for pin in pins:
        kept = folder / pin.file_name
        if kept.is_file() and sha256_of(kept) == pin.sha256:
            print(f"have    {pin.coordinates}", file=sys.stderr)
            continue
        maven = shutil.which("mvn")
        if maven is None:
            raise BuildError("fetch needs Maven (mvn) on the PATH: install it (Debian: apt-get install maven)")
        print(f"fetch   {pin.coordinates}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            words = [f"-Dartifact={pin.coordinates}:{pin.kind}", f"-DoutputDirectory={scratch}"]
            result = subprocess.run(
                [maven, "-q", "-B", f"{PLUGIN}:copy", *words], capture_output=True, text=True, check=False, cwd=scratch
            )
            incoming = Path(scratch) / pin.file_name
            if result.returncode != 0 or not incoming.is_file():
                lines = [line for line in result.stdout.splitlines() if "ERROR" in line]
                reason = lines[0] if lines else f"exit {result.returncode}"
                raise BuildError(f"Maven could not bring {pin.coordinates}: {reason}")
            found = sha256_of(incoming)
            if found != pin.sha256:
                raise BuildError(
                    f"{pin.coordinates} has sha256 {found}, pinned is {pin.sha256}: not kept, do not use it"
                )
            incoming.replace(kept)


def fetch_packed(pin: PackedPin, folder: Path) -> Path:
    """Downloads an npm package with npm and keeps one file of it, compared with its sha256.

    Raises:
        BuildError: no npm, no such package, or another content than pinned. Nothing is kept then.
    """
    kept = folder / pin.file_name
    if kept.is_file() and sha256_of(kept) == pin.sha256:
        print(f"have    {kept}", file=sys.stderr)
        return kept
    npm = shutil.which("npm")
    if npm is None:
        raise BuildError(f"npm is not on the PATH, to fetch {pin.package}: install it (Debian: apt-get install npm)")
    print(f"fetch   {pin.package}", file=sys.stderr, flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        words = [npm, "pack", pin.package, "--pack-destination", scratch]
        result = subprocess.run(words, capture_output=True, text=True, check=False, cwd=scratch)
        archives = list(Path(scratch).glob("*.tgz"))
        if result.returncode != 0 or len(archives) != 1:
            lines = [line for line in result.stderr.splitlines() if "error" in line]
            raise BuildError(f"npm could not bring {pin.package}: {lines[0] if lines else f'exit {result.returncode}'}")
        incoming = Path(scratch) / pin.file_name
        with tarfile.open(archives[0]) as archive, incoming.open("wb") as out:
            member = archive.extractfile(pin.member)
            if member is not None:
                shutil.copyfileobj(member, out)
        if sha256_of(incoming) != pin.sha256:
            raise BuildError(f"{pin.member} of {pin.package} is not the pinned file: not kept, do not use it")
        incoming.replace(kept)
    return kept


def paths(pins: Iterable[Pin], folder: Path) -> list[Path]:
    """The cached files of `pins`, each checked.

    Raises:
        BuildError: one is missing or changed; says how to get it.
    """
    found = []
    for pin in pins:
        path = folder / pin.file_name
        if not path.is_file():
            raise BuildError(f"{pin.coordinates} is not in {folder}: run python android_demo/build.py fetch")
        if sha256_of(path) != pin.sha256:
            raise BuildError(f"{path} is not the pinned file: delete it and run python android_demo/build.py fetch")
        found.append(path)
    return found


def sha256_of(path: Path) -> str:
    """sha256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
