"""The APK: resources by aapt2, Kotlin, dx, zipalign, apksigner."""

import os
import shutil
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path

from building.cache import paths
from building.errors import BuildError
from building.kotlin import compile_kotlin, java_tool, run
from building.native import check_library
from building.pins import ANDROID_TARGET, DX, JAVA_API, KOTLIN_STDLIB, ONNXRUNTIME, Pin
from building.unit_tests import BUILD, CORE, ROOT

PACKAGE = "org.facekd.demo"
MIN_SDK, TARGET_SDK = 26, 35
VERSION_CODE, VERSION_NAME = "1", "0.1.0"
ABIS = ("arm64-v8a", "x86_64")
RUNTIME = ROOT / "runtime/src/main/kotlin"
FRAMEWORK = Path("/usr/share/android-framework-res/framework-res.apk")
DEBIAN = {"aapt2": "aapt", "zipalign": "zipalign", "apksigner": "apksigner"}


@dataclass(frozen=True)
class ApkRequest:
    """What goes into the APK besides the code.

    Attributes:
        model: the folder that `facekd export BUNDLE --target android` wrote.
        detector: YuNet's .onnx.
        runtime: onnxruntime-android's .aar; None builds an app that says at start that it cannot compute.
        abi: processor whose libraries go in, of ABIS; with both the APK would be beyond its budget.
    """

    model: Path | None
    detector: Path | None
    runtime: Path | None
    abi: str
    out: Path


def build_apk(request: ApkRequest, cache: Path) -> Path:
    """Builds and signs the APK with a debug key; returns its path. `out` is replaced at the end."""
    tools = {name: debian_tool(name) for name in DEBIAN}
    work = BUILD / "apk"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    libraries, api = _runtime(request, work)
    assets = collect_assets(request, work)
    base = link_resources(tools["aapt2"], assets, work)
    dex = _dex(compile_app(api, cache, work), cache, work)
    unaligned = work / "unaligned.apk"
    shutil.copy(base, unaligned)
    with zipfile.ZipFile(unaligned, "a", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.write(dex, "classes.dex")
        for name, path in sorted(libraries.items()):
            archive.write(path, name)
    aligned = work / "aligned.apk"
    run([tools["zipalign"], "-f", "-p", "4", unaligned, aligned], "zipalign")
    key = _debug_key(cache)
    words = ["--ks", key, "--ks-pass", "pass:android", "--min-sdk-version", str(MIN_SDK), "--out", work / "signed.apk"]
    run([tools["apksigner"], "sign", *words, aligned], "apksigner")
    request.out.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(work / "signed.apk", request.out)
    return request.out


def debian_tool(name: str) -> str:
    """Path of one of DEBIAN.

    Raises:
        BuildError: it, or the framework that aapt2 links with, is not installed.
    """
    found = shutil.which(name)
    if found is None:
        raise BuildError(f"no {name} on the PATH: apt-get install {DEBIAN[name]} (or Android's build-tools)")
    if not FRAMEWORK.is_file():
        raise BuildError(f"no {FRAMEWORK}: apt-get install android-framework-res")
    return found


def _runtime(request: ApkRequest, work: Path) -> tuple[dict[str, Path], Pin]:
    """The native libraries by their place in the APK, checked, and the Java API of their version."""
    archive = request.runtime
    if archive is None:
        return {}, ONNXRUNTIME
    if not archive.is_file():
        raise BuildError(f"--onnxruntime-aar {archive}: there is no such file")
    found = {}
    version = ""
    with zipfile.ZipFile(archive) as aar:
        for library in ("libonnxruntime.so", "libonnxruntime4j_jni.so"):
            entry = f"jni/{request.abi}/{library}"
            if entry not in aar.namelist():
                raise BuildError(f"{archive} has no {entry}: give com.microsoft.onnxruntime:onnxruntime-android")
            path = Path(aar.extract(entry, work / "aar"))
            version = check_library(path, entry)
            found[f"lib/{request.abi}/{library}"] = path
    return found, JAVA_API[version]


def collect_assets(request: ApkRequest, work: Path) -> Path:
    """model/ and detector/ as the app looks for them. Nothing is changed: the app checks their hashes."""
    assets = work / "assets"
    assets.mkdir()
    if request.model is not None:
        if not (request.model / "manifest.json").is_file():
            raise BuildError(
                f"--model {request.model} has no manifest.json: facekd export BUNDLE --target android --out DIR"
            )
        shutil.copytree(request.model, assets / "model", ignore=shutil.ignore_patterns("*.log"))
    if request.detector is not None:
        if not request.detector.is_file():
            raise BuildError(f"--detector {request.detector}: there is no such file (YuNet's .onnx)")
        (assets / "detector").mkdir()
        shutil.copy(request.detector, assets / "detector/yunet.onnx")
    return assets


def link_resources(aapt2: str, assets: Path, work: Path) -> Path:
    """Compiles and links the resources; R.java appears in work/gen."""
    source = ROOT / "app/src/main"
    # Gradle adds these to the manifest from build.gradle.kts; aapt2 alone wants them in it.
    text = (source / "AndroidManifest.xml").read_text(encoding="utf-8")
    text = text.replace("<manifest ", f'<manifest package="{PACKAGE}" ', 1)
    text = text.replace("<application", '<application android:debuggable="true" android:extractNativeLibs="true"', 1)
    manifest = work / "AndroidManifest.xml"
    manifest.write_text(text, encoding="utf-8")
    run([aapt2, "compile", "--dir", source / "res", "-o", work / "res.zip"], "aapt2 compile")
    words = ["-I", FRAMEWORK, "--manifest", manifest, "--java", work / "gen", "-A", assets, "-o", work / "base.apk"]
    words += ["--min-sdk-version", str(MIN_SDK), "--target-sdk-version", str(TARGET_SDK)]
    words += ["--version-code", VERSION_CODE, "--version-name", VERSION_NAME]
    run([aapt2, "link", *words, work / "res.zip"], "aapt2 link")
    return work / "base.apk"


def compile_app(api: Pin, cache: Path, work: Path) -> list[Path]:
    """All class folders of the app, and ONNX Runtime's Java API."""
    classes = work / "api"
    with zipfile.ZipFile(paths([api], cache)[0]) as jar:
        jar.extractall(classes, [n for n in jar.namelist() if n.startswith("ai/onnxruntime/") and n.endswith(".class")])
    resources = BUILD / "R"
    resources.mkdir(exist_ok=True)
    words = [java_tool("javac"), "--release", "8", "-Xlint:-options", "-d", resources, *(work / "gen").rglob("*.java")]
    run(words, "javac")
    sources = [CORE, RUNTIME, ROOT / "app/src/main/kotlin"]
    libraries = [resources, *paths([api, ANDROID_TARGET], cache)]
    compile_kotlin(sources, BUILD / "app", cache=cache, class_path=libraries)
    return [resources, BUILD / "app", classes]


def _dex(folders: list[Path], cache: Path, work: Path) -> Path:
    standard = work / "stdlib"
    (library,) = paths([KOTLIN_STDLIB], cache)
    with zipfile.ZipFile(library) as jar:
        # META-INF holds module descriptions of newer class file versions, which Android does not read.
        jar.extractall(standard, [n for n in jar.namelist() if n.endswith(".class") and not n.startswith("META-INF")])
    (dx,) = paths([DX], cache)
    words = [java_tool("java"), "-Xmx2g", "-XX:+UseSerialGC", "-cp", dx, "com.android.dx.command.Main", "--dex"]
    run([*words, f"--min-sdk-version={MIN_SDK}", f"--output={work / 'classes.dex'}", *folders, standard], "dx")
    return work / "classes.dex"


def _debug_key(cache: Path) -> Path:
    """A debug key of this machine's own, as Android Studio makes one; made once."""
    key = cache / "debug.keystore"
    if not key.is_file():
        words = ["-genkeypair", "-keystore", key, "-storepass", "android", "-keypass", "android", "-alias", "debug"]
        words += ["-keyalg", "RSA", "-keysize", "2048", "-validity", "10000", "-dname", "CN=facekd debug"]
        run([java_tool("keytool"), *words], "keytool")
    return key


def output_of(words: list[str | Path]) -> str:
    """What a tool prints; an error with its own words when it fails."""
    result = subprocess.run([os.fspath(w) for w in words], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise BuildError(f"{words[0]} {words[1]} failed: {(result.stderr or result.stdout).strip()[:300]}")
    return result.stdout
