"""What a built APK is, read back from the file itself."""

import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

from building.apk import MIN_SDK, PACKAGE, TARGET_SDK, output_of
from building.cache import paths
from building.class_files import Platform
from building.dex import read_dex, unresolved
from building.errors import BuildError
from building.native import PAGE, load_alignments
from building.pins import ANDROID_MINIMUM

BUDGET_BYTES = 25_000_000
PERMISSIONS = ["android.permission.CAMERA"]
# Newer than the least Android, and used only behind a look at Build.VERSION.SDK_INT (Benchmark.kt, KeystoreKey.kt).
GUARDED = {
    "android/security/keystore/KeyGenParameterSpec$Builder.setIsStrongBoxBacked(Z)"
    "Landroid/security/keystore/KeyGenParameterSpec$Builder;",
    "android/security/keystore/KeyGenParameterSpec$Builder.setUnlockedDeviceRequired(Z)"
    "Landroid/security/keystore/KeyGenParameterSpec$Builder;",
    "android/os/Build.SOC_MANUFACTURERLjava/lang/String;",
    "android/os/Build.SOC_MODELLjava/lang/String;",
    "android/os/PowerManager.getCurrentThermalStatus()I",
}


def verify_apk(apk: Path, cache: Path) -> dict[str, Any]:
    """Signature, identity, permissions, size, pages, and every android.* reference against the least Android.

    Returns:
        What was found, for a reader.

    Raises:
        BuildError: the first thing that is wrong.
    """
    if not apk.is_file():
        raise BuildError(f"there is no {apk}: build it with python android_demo/build.py apk")
    signature = output_of(["apksigner", "verify", "--verbose", apk])
    badging = output_of(["aapt2", "dump", "badging", apk])
    permissions = re.findall(
        r"uses-permission(?:-sdk-\d+)?: name='([^']+)'", output_of(["aapt2", "dump", "permissions", apk])
    )
    if permissions != PERMISSIONS:
        raise BuildError(f"{apk} asks for {', '.join(permissions)}; only {', '.join(PERMISSIONS)} is right")
    for wanted in (
        f"package: name='{PACKAGE}'",
        f"sdkVersion:'{MIN_SDK}'",
        f"targetSdkVersion:'{TARGET_SDK}'",
        "launchable-activity",
    ):
        if wanted not in badging:
            raise BuildError(f"{apk}: its badging lacks {wanted}")
    size = apk.stat().st_size
    if size > BUDGET_BYTES:
        raise BuildError(f"{apk} has {size} bytes, more than the budget of {BUDGET_BYTES}")
    with zipfile.ZipFile(apk) as archive:
        names = archive.namelist()
        dex = read_dex(archive.read("classes.dex"))
        libraries = [n for n in names if n.endswith(".so")]
        for name in libraries:
            if min(load_alignments(archive.read(name), name)) < PAGE:
                raise BuildError(f"{apk}: {name} is not aligned to 16 KB pages")
    run_alignment_check(apk)
    (minimum,) = paths([ANDROID_MINIMUM], cache)
    missing = [m for m in unresolved(dex, Platform(minimum), "android/", "org/facekd/") if m not in GUARDED]
    if missing:
        raise BuildError(f"{apk} uses what Android API {MIN_SDK} lacks: {', '.join(missing[:5])}")
    missing = unresolved(dex, Platform(minimum), "ai/onnxruntime/", "org/facekd/")
    if missing:
        raise BuildError(f"{apk} uses what its ONNX Runtime lacks: {', '.join(missing[:5])}")
    own = [c for c in dex.parents if c.startswith("org/facekd/")]
    return {
        "apk": str(apk),
        "bytes": size,
        "signed": [line.split("(")[1].rstrip("): true") for line in signature.splitlines() if line.endswith("): true")],
        "permissions": permissions,
        "classes": len(dex.parents),
        "own_classes": len(own),
        "methods": len([m for m in dex.members if m[2].startswith("(")]),
        "android_references": len([m for m in dex.members if m[0].startswith("android/")]),
        "native_libraries": libraries,
        "model": "assets/model/manifest.json" in names,
        "detector": "assets/detector/yunet.onnx" in names,
    }


def run_alignment_check(apk: Path) -> None:
    """zipalign's own check of the signed file."""
    if shutil.which("zipalign") is None:
        raise BuildError("no zipalign on the PATH: apt-get install zipalign")
    output_of(["zipalign", "-c", "-p", "4", apk])
