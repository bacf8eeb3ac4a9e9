"""core's JUnit tests on the JVM."""

import os
import subprocess
from pathlib import Path

from building.cache import paths
from building.kotlin import compile_kotlin, java_tool
from building.pins import ANNOTATIONS, JUNIT, KOTLIN_STDLIB

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build"
CORE = ROOT / "core/src/main/kotlin"


def run_tests(cache: Path) -> int:
    """Compiles core with its tests and runs every class named *Test; returns JUnit's exit code."""
    sources = ROOT / "core/src/test/kotlin"
    junit = paths(JUNIT, cache)
    compile_kotlin([CORE, sources], BUILD / "test", cache=cache, class_path=junit)
    names = sorted(".".join(p.relative_to(sources).with_suffix("").parts) for p in sources.rglob("*Test.kt"))
    resources = ROOT / "core/src/test/resources"
    entries = [BUILD / "test", resources, *junit, *paths([KOTLIN_STDLIB, ANNOTATIONS], cache)]
    words = [java_tool("java"), "-cp", os.pathsep.join(map(str, entries)), "org.junit.runner.JUnitCore", *names]
    return subprocess.run(words, check=False).returncode
