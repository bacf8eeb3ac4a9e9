"""The app's recognition as a desktop program, for comparison with Python."""

import os
from pathlib import Path

from building.apk import RUNTIME
from building.cache import paths
from building.kotlin import compile_kotlin, java_tool
from building.pins import ANNOTATIONS, KOTLIN_STDLIB, ONNXRUNTIME
from building.unit_tests import BUILD, CORE, ROOT


def build_desktop(cache: Path) -> list[str]:
    """Compiles it; returns the command to which its four arguments are added (desktop/.../Main.kt)."""
    library = paths([ONNXRUNTIME], cache)
    sources = [CORE, RUNTIME, ROOT / "desktop/src/main/kotlin"]
    compile_kotlin(sources, BUILD / "desktop", cache=cache, class_path=library)
    entries = [BUILD / "desktop", *library, *paths([KOTLIN_STDLIB, ANNOTATIONS], cache)]
    return [java_tool("java"), "-cp", os.pathsep.join(map(str, entries)), "org.facekd.desktop.MainKt"]
