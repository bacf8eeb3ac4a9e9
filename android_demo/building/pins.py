"""Every file the build takes from Maven Central and npm, by name, version and sha256."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Pin:
    """One file of Maven Central.

    Attributes:
        coordinates: group:artifact:version.
        sha256: of the file.
        kind: jar or aar.
    """

    coordinates: str
    sha256: str
    kind: str = "jar"

    @property
    def file_name(self) -> str:
        """Its name in the cache folder."""
        _, artifact, version = self.coordinates.split(":")
        return f"{artifact}-{version}.{self.kind}"


@dataclass(frozen=True)
class PackedPin:
    """One file inside an npm package.

    Attributes:
        package: name@version.
        member: its path in the package.
        file_name: its name in the cache folder.
        sha256: of the file.
    """

    package: str
    member: str
    file_name: str
    sha256: str


KOTLIN_STDLIB = Pin(
    "org.jetbrains.kotlin:kotlin-stdlib:2.2.21", "6558a3d233da56a20934b32159f9db5f86ed5816ef098f78a2c223dc6abb79dd"
)
ANNOTATIONS = Pin("org.jetbrains:annotations:13.0", "ace2a10dc8e2d5fd34925ecac03e4988b2c0f851650c94b8cef49ba1bd111478")
COMPILER = (
    Pin(
        "org.jetbrains.kotlin:kotlin-compiler-embeddable:2.2.21",
        "9588fa696ac5507af764fd5660df6894185e12704ec1bc3f5cb772af4987f295",
    ),
    KOTLIN_STDLIB,
    Pin(
        "org.jetbrains.kotlin:kotlin-script-runtime:2.2.21",
        "2b1519b427b514d1536c1b425674b03fe914af637924028e9959c6625442df51",
    ),
    Pin(
        "org.jetbrains.kotlin:kotlin-reflect:1.6.10",
        "3277ac102ae17aad10a55abec75ff5696c8d109790396434b496e75087854203",
    ),
    Pin(
        "org.jetbrains.kotlin:kotlin-daemon-embeddable:2.2.21",
        "91c0673c22e44b054ae0314d323860ebe1f3aff3f0ebc74fff82c4733dde09be",
    ),
    Pin(
        "org.jetbrains.kotlinx:kotlinx-coroutines-core-jvm:1.8.0",
        "9860906a1937490bf5f3b06d2f0e10ef451e65b95b269f22daf68a3d1f5065c5",
    ),
    ANNOTATIONS,
)
JUNIT = (
    Pin("junit:junit:4.13.2", "8e495b634469d64fb8acfa3495a065cbacc8a0fff55ce1e31007be4c16dc57d3"),
    Pin("org.hamcrest:hamcrest-core:1.3", "66fdef91e9739348df7a096aa384a5685f4e875584cce89386a7a47251c4d8e9"),
)
ONNXRUNTIME = Pin(
    "com.microsoft.onnxruntime:onnxruntime:1.28.0", "3a9dc00bed7ee467ded8a257f99fc216570d385f8b06053570d33e9b5d7c7a37"
)
# By version of the Android archive, its Java API: the desktop jar has the same classes as Java 8 class files, which dx
# reads, where the archive's own are of Java 17. 1.29 and later send telemetry.
JAVA_API = {
    "1.26": Pin(
        "com.microsoft.onnxruntime:onnxruntime:1.26.0",
        "cf5a48c6f5d07b15f10634b80433ddce8f5892662b1a122bbbc0907f4f442c60",
    ),
    "1.28": ONNXRUNTIME,
}
# onnxruntime-android 1.26.0 (MIT) as a plugin for Unity carries it: the archive itself could not be fetched where this
# build was written.
ANDROID_ARCHIVE = PackedPin(
    "com.github.asus4.onnxruntime@0.4.8",
    "package/Plugins/Android/onnxruntime.aar",
    "onnxruntime-android-1.26.0.aar",
    "09c0780ae8d734ef2774bdf498b624729a855e6f9a8e488a0e7398a4e7396032",
)
ANDROID_TARGET = Pin(
    "org.robolectric:android-all:15-robolectric-12650502",
    "6c0670454f6fcee9f1b17aa393e81d71bf26e7e6ae7c5777ed3924b062191d5b",
)
ANDROID_MINIMUM = Pin(
    "org.robolectric:android-all:8.0.0_r4-robolectric-r1",
    "3707dc100381e3bbcc57b85255fd313ae20875fc65cf3130c47e86f044ad77f0",
)
DX = Pin(
    "com.jakewharton.android.repackaged:dalvik-dx:16.0.1",
    "1e4b645628e3bdb097b5331d669e177ef235a551582a8c646dbe36865e541907",
)

FOR_TESTS = (*COMPILER, *JUNIT)
FOR_DESKTOP = (*COMPILER, ONNXRUNTIME)
FOR_APK = (*COMPILER, ONNXRUNTIME, ANDROID_TARGET, ANDROID_MINIMUM, DX)
EVERYTHING = tuple(dict.fromkeys((*FOR_TESTS, *FOR_DESKTOP, *FOR_APK)))
