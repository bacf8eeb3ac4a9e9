#!/usr/bin/env python3
"""Builds and tests the Android demo without Gradle: Python's standard library, a JDK, and pinned files.

python android_demo/build.py fetch      the only command that downloads; --runtime: ONNX Runtime's native libraries too
python android_demo/build.py test       core's JUnit tests
python android_demo/build.py launch-test  the app, launched by Robolectric; pictures of its pages in build/pages
python android_demo/build.py desktop    the app's recognition as a desktop program, for comparisons
python android_demo/build.py store-bench  how fast the store of samples is, beside NumPy
python android_demo/build.py store-kill   kills a process that writes one, 50 times
python android_demo/build.py apk        --model ARTEFACT --detector YUNET --onnxruntime-aar AAR
python android_demo/build.py verify     what the built APK is
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from building import cache, desktop, launch, store, unit_tests
from building.apk import ABIS, ApkRequest, build_apk
from building.errors import BuildError
from building.launch_pins import FOR_LAUNCH
from building.pins import ANDROID_ARCHIVE, EVERYTHING, JAVA_API
from building.verify import verify_apk


def parser() -> argparse.ArgumentParser:
    """The command line."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--cache", help="folder of downloaded files (FACEKD_ANDROID_CACHE, ~/.cache/facekd/android)")
    root = argparse.ArgumentParser(description="Builds and tests the Android demo without Gradle.")
    verbs = root.add_subparsers(dest="verb", required=True)
    fetch = verbs.add_parser("fetch", parents=[common], help="download the pinned files from Maven Central, by mvn")
    fetch.add_argument("--runtime", action="store_true", help="and onnxruntime-android, by npm: 130 MB")
    verbs.add_parser("test", parents=[common], help="compile core and run its JUnit tests")
    launched = verbs.add_parser("launch-test", parents=[common], help="launch the app on this machine and test it")
    launched.add_argument("--material", type=Path, help="folder of make_launch_set.py; default: one with drawn faces")
    launched.add_argument("--only", nargs="+", default=[], metavar="TEST", help="test classes, as in SequenceTest")
    screens = "screens of the pages' pictures; pairs: each two of size, light and text size meet, on half of them all"
    launched.add_argument("--screens", choices=("all", "pairs"), default="all", help=screens)
    verbs.add_parser("desktop", parents=[common], help="compile the desktop program; prints its command line")
    bench = verbs.add_parser("store-bench", parents=[common], help="measure the store of samples on this machine")
    bench.add_argument("--people", type=_count, default=store.PEOPLE, help="three samples each (%(default)s)")
    bench.add_argument("--rounds", type=_count, default=store.ROUNDS, help="searches of either kind (%(default)s)")
    kill = verbs.add_parser("store-kill", parents=[common], help="kill a process that writes samples, and look")
    kill.add_argument("--times", type=_count, default=50, help="(%(default)s)")
    apk = verbs.add_parser("apk", parents=[common], help="build, sign (debug key) and verify the APK")
    apk.add_argument("--model", type=Path, help="folder written by facekd export --target android")
    apk.add_argument("--detector", type=Path, help="YuNet's .onnx (OpenCV zoo, face_detection_yunet)")
    apk.add_argument(
        "--onnxruntime-aar", type=Path, help="com.microsoft.onnxruntime:onnxruntime-android; default: the fetched one"
    )
    apk.add_argument("--abi", choices=ABIS, default=ABIS[0], help="arm64-v8a for phones, x86_64 for emulators")
    apk.add_argument(
        "--check-only",
        action="store_true",
        help="build without model, detector or ONNX Runtime where they are not given: to check the build, not to use",
    )
    verify = verbs.add_parser("verify", parents=[common], help="read an APK back: signature, permissions, references")
    for verb in (apk, verify):
        verb.add_argument("--out", type=Path, default=unit_tests.BUILD / "facekd-demo-debug.apk", help="the APK")
    return root


def main(words: Sequence[str] | None = None) -> int:
    """Runs one verb; exit code 1 and one line on an error."""
    given = parser().parse_args(words)
    folder = cache.cache_folder(given.cache)
    try:
        if given.verb == "fetch":
            cache.fetch([*EVERYTHING, *FOR_LAUNCH], folder)
            if given.runtime:
                cache.fetch(JAVA_API.values(), folder)
                cache.fetch_packed(ANDROID_ARCHIVE, folder)
        elif given.verb == "test":
            return unit_tests.run_tests(folder)
        elif given.verb == "launch-test":
            return launch.run_launch_tests(folder, given.material, given.only, given.screens)
        elif given.verb == "store-bench":
            store.bench(store.Program(folder), given.people, given.rounds)
        elif given.verb == "store-kill":
            print(store.kill(store.Program(folder), given.times))
        elif given.verb == "desktop":
            print(json.dumps(desktop.build_desktop(folder)))
        else:
            if given.verb == "apk":
                build_apk(_request(given, folder), folder)
            print(json.dumps(verify_apk(given.out, folder), indent=2))
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _count(word: str) -> int:
    if not word.isdecimal() or not 1 <= int(word) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{word!r} is no number from 1 to 1000000")
    return int(word)


def _request(given: argparse.Namespace, folder: Path) -> ApkRequest:
    fetched = folder / ANDROID_ARCHIVE.file_name
    runtime = given.onnxruntime_aar or (fetched if fetched.is_file() else None)
    wanted = {"--model": given.model, "--detector": given.detector, "--onnxruntime-aar": runtime}
    missing = [name for name, value in wanted.items() if value is None]
    if missing and not given.check_only:
        raise BuildError(
            f"an app that works needs {', '.join(missing)}; --check-only builds one that does not, to check it"
        )
    return ApkRequest(given.model, given.detector, runtime, given.abi, given.out)


if __name__ == "__main__":
    sys.exit(main())
