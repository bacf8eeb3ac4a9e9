"""Compiling Kotlin and Java by their own compilers, and skipping what has not changed."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from building.cache import paths
from building.errors import BuildError
from building.pins import COMPILER, KOTLIN_STDLIB

# Java 8 class files without invokedynamic: what dx reads and Android 8 runs.
TARGET = (
    "-jvm-target",
    "1.8",
    "-Xlambdas=class",
    "-Xsam-conversions=class",
    "-no-stdlib",
    "-no-reflect",
    "-Xjdk-release=1.8",
)

# A short run of a pinned jar: one compiler, one collector thread and no bytecode check take half the processor time.
JVM = (
    "-Xmx1g",
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-XX:+UnlockDiagnosticVMOptions",
    "-XX:-BytecodeVerificationRemote",
)


def java_tool(name: str) -> str:
    """Path of `java`, `javac` or `keytool`.

    Raises:
        BuildError: there is none.
    """
    home = os.environ.get("JAVA_HOME")
    found = shutil.which(name, path=str(Path(home) / "bin")) if home else None
    found = found or shutil.which(name)
    if found is None:
        raise BuildError(f"no {name} on the PATH or in JAVA_HOME: install a JDK 17 or later")
    return found


def run(words: Sequence[str | Path], what: str, *, folder: Path | None = None) -> str:
    """Runs a tool and returns what it printed.

    Raises:
        BuildError: it failed; its words are printed above the error.
    """
    result = subprocess.run([str(w) for w in words], capture_output=True, text=True, check=False, cwd=folder)
    if result.returncode != 0:
        print(result.stdout + result.stderr, file=sys.stderr)
        raise BuildError(f"{what} failed (exit {result.returncode}); its words stand above")
    if result.stderr:
        print(result.stderr, file=sys.stderr, end="")  # warnings
    return result.stdout


def compile_kotlin(
    sources: Sequence[Path],
    out: Path,
    *,
    cache: Path,
    class_path: Sequence[Path] = (),
    target: Sequence[str] = TARGET,
) -> bool:
    """Compiles `sources` (folders or files) into the folder `out`, unless nothing changed since.

    Args:
        class_path: jars and class folders besides the Kotlin standard library.
        target: the compiler's options for what will run the classes.

    Returns:
        Whether it compiled.
    """
    files = sorted(
        p for source in sources for p in ([source] if source.is_file() else source.rglob("*")) if p.is_file()
    )
    if not any(p.suffix == ".kt" for p in files):
        raise BuildError(f"no Kotlin sources in {', '.join(map(str, sources))}")
    compiler = paths(COMPILER, cache)
    library = [*paths([KOTLIN_STDLIB], cache), *class_path]
    stamp = out.with_name(out.name + ".stamp")
    key = fingerprint([*files, *class_files(class_path)], extra=" ".join(target))
    if out.is_dir() and stamp.is_file() and stamp.read_text() == key:
        return False
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    joined = os.pathsep.join(map(str, library))
    words = [java_tool("java"), *JVM, "-cp", os.pathsep.join(map(str, compiler))]
    words += ["org.jetbrains.kotlin.cli.jvm.K2JVMCompiler", *target, "-cp", joined, "-d", str(out)]
    run([*words, *files], "the Kotlin compiler")
    stamp.write_text(key)
    return True


def class_files(class_path: Sequence[Path]) -> list[Path]:
    """Jars as they are, folders by their files."""
    return sorted(p for entry in class_path for p in ([entry] if entry.is_file() else entry.rglob("*")) if p.is_file())


def fingerprint(files: Sequence[Path], *, extra: str = "") -> str:
    """sha256 over names and contents (jars by size and name: they are pinned)."""
    digest = hashlib.sha256(extra.encode())
    for path in files:
        digest.update(path.name.encode())
        digest.update(str(path.stat().st_size).encode() if path.suffix == ".jar" else path.read_bytes())
    return digest.hexdigest()
