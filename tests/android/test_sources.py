"""What neither the compiler nor aapt2 looks at in the Android demo's sources: versions, words, colours."""

import hashlib
import re
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

CONSENT_TEXTS = {"1": "0b83c3a5ddab"}
ANDROID = "{http://schemas.android.com/apk/res/android}"


@pytest.fixture
def sources(demo: Path) -> Path:
    return demo / "app/src/main"


def test_gradle_builds_with_the_versions_of_build_py(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradle cannot be run here; at least it names what build.py compiles, tests and links with."""
    monkeypatch.syspath_prepend(str(demo))
    from building import apk, pins

    catalog = tomllib.loads((demo / "gradle/libs.versions.toml").read_text(encoding="utf-8"))
    versions = catalog["versions"]
    assert pins.KOTLIN_STDLIB.coordinates.endswith(f":{versions['kotlin']}")
    assert f"{catalog['libraries']['junit']['module']}:{versions['junit']}" in [p.coordinates for p in pins.JUNIT]
    assert pins.ONNXRUNTIME.coordinates.endswith(f":{versions['onnxruntime']}")
    assert versions["onnxruntime"].rpartition(".")[0] in pins.JAVA_API  # checked to send no telemetry
    script = (demo / "app/build.gradle.kts").read_text(encoding="utf-8")
    found = dict(pairs(script))
    assert found["namespace"] == found["applicationId"] == apk.PACKAGE
    assert (int(found["minSdk"]), int(found["targetSdk"])) == (apk.MIN_SDK, apk.TARGET_SDK)
    assert (found["versionCode"], found["versionName"]) == (apk.VERSION_CODE, apk.VERSION_NAME)
    assert found["compileSdk"] == found["targetSdk"]
    for name in apk.ABIS:
        assert f'"{name}"' in script
    used = set(
        re.findall(r"libs\.([\w.]+)", "".join(p.read_text(encoding="utf-8") for p in demo.rglob("*.gradle.kts")))
    )
    offered = {name.replace("-", ".") for name in catalog["libraries"]}
    offered |= {f"plugins.{name.replace('-', '.')}" for name in catalog["plugins"]}
    assert used == offered


def pairs(script: str) -> list[tuple[str, str]]:
    """name = value lines of a Gradle script, values without quotation marks."""
    return [(name, value.strip('"')) for name, value in re.findall(r"^ +(\w+) = (\"[^\"]+\"|\d+)$", script, re.M)]


def test_every_word_on_the_screen_is_a_resource(sources: Path) -> None:
    """Texts, descriptions and hints of layouts and manifest; each string that exists is used."""
    layouts = [*(sources / "res").glob("layout*/*.xml"), *(sources / "res/values").glob("*.xml")]
    manifest = sources / "AndroidManifest.xml"
    for path in [*layouts, manifest]:
        for element in ET.parse(path).iter():
            for key in ("text", "contentDescription", "hint", "label"):
                assert element.get(ANDROID + key, "@string/").startswith("@string/"), f"{path.name}: {element.attrib}"
    text = "".join(p.read_text(encoding="utf-8") for p in [*layouts, manifest, *(sources / "kotlin").rglob("*.kt")])
    strings = {element.get("name") for element in ET.parse(sources / "res/values/strings.xml").getroot()}
    used = set(re.findall(r"(?:R\.string\.|R\.plurals\.|@string/)(\w+)", text))
    assert used == strings


def test_the_consent_text_and_its_version_change_together(sources: Path) -> None:
    """Who agreed to another text is asked again: a new text needs a new CONSENT_VERSION and its hash here."""
    strings = {e.get("name"): e.text or "" for e in ET.parse(sources / "res/values/strings.xml").getroot()}
    code = (sources / "kotlin/org/facekd/demo/Questions.kt").read_text(encoding="utf-8")
    (version,) = re.findall(r"const val CONSENT_VERSION = (\d+)", code)
    assert {version: hashlib.sha256(strings["consent"].encode()).hexdigest()[:12]} == CONSENT_TEXTS


def test_what_can_be_pressed_has_words(sources: Path) -> None:
    kinds = {"Button", "RadioButton", "ImageButton", "CheckBox", "Switch"}
    found = [e for path in (sources / "res").glob("layout*/*.xml") for e in ET.parse(path).iter() if e.tag in kinds]
    assert len(found) >= 10
    for element in found:
        assert element.get(ANDROID + "text") or element.get(ANDROID + "contentDescription"), element.attrib


def test_a_turned_screen_has_the_same_views(sources: Path) -> None:
    """MainActivity binds the layout again when the phone is turned."""
    upright, turned = (
        {e.get(ANDROID + "id") for e in ET.parse(sources / "res" / folder / "main.xml").iter()} - {None}
        for folder in ("layout", "layout-land")
    )
    assert upright == turned == {"@+id/status", "@+id/preview", "@+id/times"}


def test_colours_stand_out(sources: Path) -> None:
    """Contrast of at least 4.5 to 1 (WCAG 1.4.3), light and dark, on the grounds of Android's Material theme."""
    light = colours(sources / "res/values/colors.xml")
    dark = light | colours(sources / "res/values-night/colors.xml")
    assert contrast(light["accent"], over("#FAFAFA")) >= 4.5
    assert contrast(dark["accent"], over("#303030")) >= 4.5
    # Over the camera's picture the label has its own ground, worst over white.
    assert contrast(light["overlay_text"], over(light["overlay_ground"])) >= 4.5
    # The bars' icons are dark on `bars` and white on `dark_bars`.
    assert contrast("#FF000000", over(light["bars"])) >= 4.5
    assert contrast("#FFFFFFFF", over(light["dark_bars"])) >= 4.5
    # Boxes beside one another are told apart by their words too; on the label's ground both are seen.
    for name in ("face_known", "face_unknown"):
        assert contrast(light[name], over(light["overlay_ground"])) >= 3.0


def colours(path: Path) -> dict[str, str]:
    """Name -> #AARRGGBB or #RRGGBB."""
    return {str(e.get("name")): str(e.text) for e in ET.parse(path).getroot()}


def over(colour: str, ground: int = 255) -> str:
    """`colour` over grey `ground`, opaque."""
    alpha = int(colour[1:3], 16) / 255 if len(colour) == 9 else 1.0
    levels = [int(colour[-6:][i : i + 2], 16) for i in (0, 2, 4)]
    return "#" + "".join(f"{round(alpha * level + (1 - alpha) * ground):02X}" for level in levels)


def contrast(first: str, second: str) -> float:
    """WCAG's ratio of relative luminances."""

    def luminance(colour: str) -> float:
        levels = [int(colour[-6:][i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in levels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    a, b = sorted((luminance(first), luminance(second)))
    return (b + 0.05) / (a + 0.05)
