"""onnxruntime-web, which the page computes with: fetched when asked for, checked at every use, never committed."""

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from facekd.common.errors import FacekdError
from facekd.common.writing import atomic_file

# 1.28 was not published for the web; 1.29 is where ONNX Runtime begins to send telemetry.
PACKAGE = "onnxruntime-web@1.27.0"
FILES = {
    "ort.wasm.min.mjs": "9608e98a3fba9716f0cbd0bca0c94808b71dae2e9265ca3fe742ddc393a53ebc",
    "ort-wasm-simd-threaded.mjs": "0a1e718d99c41b22c21f2520ff4f9e883a6b5533856e398d21816ee8eb8185d3",
    "ort-wasm-simd-threaded.wasm": "d1ab1b94b16a65b29d710d0b587b29e7bed336827577623913479b8afe8113e6",
}
"""The files of its CPU build that a page needs, by sha256."""


def cache_folder() -> Path:
    """FACEKD_DEMO_CACHE, else ~/.cache/facekd/demo."""
    return Path(os.environ.get("FACEKD_DEMO_CACHE") or Path.home() / ".cache" / "facekd" / "demo")


def fetch_runtime(folder: Path) -> None:
    """Downloads the package with npm (which knows the user's mirrors) and keeps `FILES`, each compared with its sha256.

    Raises:
        FacekdError: no npm, no such package, or another content than pinned. Nothing is kept then.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise FacekdError(f"--fetch needs npm on the PATH, to download {PACKAGE}: install Node.js (Debian: npm)")
    with tempfile.TemporaryDirectory() as scratch:
        words = [npm, "pack", PACKAGE, "--pack-destination", scratch]
        result = subprocess.run(words, capture_output=True, text=True, check=False, cwd=scratch)
        archives = list(Path(scratch).glob("*.tgz"))
        if result.returncode != 0 or len(archives) != 1:
            lines = [line for line in result.stderr.splitlines() if "error" in line.lower()]
            raise FacekdError(f"npm could not bring {PACKAGE}: {lines[0] if lines else f'exit {result.returncode}'}")
        found = {}
        with tarfile.open(archives[0]) as archive:
            for name in FILES:
                try:
                    member = archive.extractfile(f"package/dist/{name}")
                except KeyError:
                    member = None
                found[name] = _checked(name, member.read() if member else b"", f"{PACKAGE} from npm")
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in found.items():
        with atomic_file(folder / name, overwrite=True) as file:
            file.write(data)


def read_runtime(folder: Path) -> dict[str, bytes]:
    """The fetched files by name, each compared with its sha256.

    Raises:
        FacekdError: one is missing or changed; says how to get it.
    """
    found = {}
    for name in FILES:
        path = folder / name
        if not path.is_file():
            raise FacekdError(f"{PACKAGE} is not in {folder}: run facekd demo --fetch once (needs npm)")
        found[name] = _checked(name, path.read_bytes(), str(folder))
    return found


def _checked(name: str, data: bytes, where: str) -> bytes:
    if hashlib.sha256(data).hexdigest() != FILES[name]:
        raise FacekdError(f"{name} in {where} is not the pinned file: do not use it; run facekd demo --fetch")
    return data
