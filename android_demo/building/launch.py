"""The app launched on a desktop by Robolectric: activities, camera, networks, key store; its pages as pictures."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from building.apk import PACKAGE, ApkRequest, collect_assets, compile_app, debian_tool, link_resources
from building.cache import paths
from building.errors import BuildError
from building.kotlin import compile_kotlin, java_tool
from building.launch_pins import ARCHIVES, INSTRUMENTED, LIBRARIES
from building.pins import ANDROID_TARGET, ANNOTATIONS, KOTLIN_STDLIB, ONNXRUNTIME
from building.unit_tests import BUILD, ROOT

TARGET = ("-jvm-target", "17", "-no-stdlib", "-no-reflect")
OPENED = ("java.lang", "java.util", "java.net", "java.io", "java.security", "jdk.internal.access")


def run_launch_tests(cache: Path, material: Path | None, names: Sequence[str], screens: str = "all") -> int:
    """Compiles the app and launch/, and runs its tests; returns JUnit's exit code. Pictures are left in build/pages.

    Args:
        material: a folder of `make_launch_set.py`; None makes one with drawn faces.
        names: of test classes; all where empty.
        screens: which the pages are photographed on: "all", or "pairs", half of them (PagesTest.kt).
    """
    material = material or _drawn()
    parts = {name: material / name for name in ("artefact", "detector.onnx", "frames")}
    missing = [name for name, path in parts.items() if not path.exists()]
    if missing:
        raise BuildError(f"{material} has no {', '.join(missing)}: make it with android_demo/make_launch_set.py")
    sources = ROOT / "launch/src/main/kotlin"
    known = sorted(".".join(p.relative_to(sources).with_suffix("").parts) for p in sources.rglob("*Test.kt"))
    chosen = [name for name in known if not names or name.rpartition(".")[2] in names]
    if len(chosen) < len(names):
        raise BuildError(f"--only {', '.join(names)}: valid are {', '.join(n.rpartition('.')[2] for n in known)}")
    work = BUILD / "launch-work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    request = ApkRequest(parts["artefact"], parts["detector.onnx"], None, "", work / "unused.apk")
    assets = collect_assets(request, work)
    base = link_resources(debian_tool("aapt2"), assets, work)
    resources, app, _ = compile_app(ONNXRUNTIME, cache, work)
    libraries = [*paths([ONNXRUNTIME, *LIBRARIES], cache), *_classes(cache, work)]
    platform = paths([ANDROID_TARGET], cache)
    class_path = [app, resources, *libraries, *platform]
    compile_kotlin([sources], BUILD / "launch", cache=cache, class_path=class_path, target=TARGET)
    _configure(base, assets, work)
    paths([INSTRUMENTED], cache)
    # The framework last: what Robolectric has of it comes first.
    entries = [
        BUILD / "launch",
        work / "config",
        *class_path[:-1],
        *paths([KOTLIN_STDLIB, ANNOTATIONS], cache),
        *platform,
    ]
    words = [java_tool("java"), "-Xmx1500m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    words += [f"--add-opens=java.base/{name}=ALL-UNNAMED" for name in OPENED]
    words += ["-Drobolectric.offline=true", f"-Drobolectric.dependency.dir={cache.absolute()}"]
    words += [f"-Dfacekd.frames={parts['frames'].absolute()}", f"-Dfacekd.pages={BUILD / 'pages'}"]
    words += [f"-Dfacekd.screens={screens}"]
    words += ["-cp", os.pathsep.join(map(str, entries)), "org.junit.runner.JUnitCore", *chosen]
    return subprocess.run(words, check=False, cwd=work).returncode


def _drawn() -> Path:
    folder = BUILD / "launch-set"
    words = [sys.executable, ROOT / "make_launch_set.py", folder]
    if not folder.is_dir() and subprocess.run([*map(str, words)], check=False).returncode != 0:
        raise BuildError("make_launch_set.py failed; it needs facekd[onnx]. Or give a folder of it with --material")
    return folder


def _classes(cache: Path, work: Path) -> list[Path]:
    """classes.jar of each archive."""
    found = []
    for archive in paths(ARCHIVES, cache):
        with zipfile.ZipFile(archive) as aar:
            place = work / f"{archive.stem}.jar"
            place.write_bytes(aar.read("classes.jar"))
        found.append(place)
    return found


def _configure(base: Path, assets: Path, work: Path) -> None:
    """Where Robolectric finds the app (the file that Gradle would write)."""
    file = work / "config/com/android/tools/test_config.properties"
    file.parent.mkdir(parents=True)
    found = {
        "android_merged_manifest": work / "AndroidManifest.xml",
        "android_resource_apk": base,
        "android_merged_assets": assets,
        "android_custom_package": PACKAGE,
    }
    file.write_text("".join(f"{key}={value}\n" for key, value in found.items()), encoding="utf-8")
