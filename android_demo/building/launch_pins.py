"""What the launch tests need: Robolectric 4.16, Android 15 as it runs it, and what it calls of androidx.test."""

from building.pins import JUNIT, Pin

INSTRUMENTED = Pin(
    "org.robolectric:android-all-instrumented:15-robolectric-13954326-i7",
    "06c4c8602d6db7486266a982bc55834ed6dfebd62a0b88daca204139ecf142cb",
)
"""Android 15 with Robolectric's hooks; Robolectric itself opens it, by its name, in the folder where it lies."""

ARCHIVES = (
    Pin("androidx.test:monitor:1.8.0", "56cb7496a06d9f2dca7d3ff76c50a8a30bd18e00a24a3b267d5a31437b278e67", "aar"),
    Pin(
        "androidx.test.espresso:espresso-idling-resource:3.7.0",
        "5ff62326b49c308c1d060466ae3cf4aa0e3deaf9295f077a6886048dda3e9b14",
        "aar",
    ),
    Pin("androidx.tracing:tracing:1.1.0", "5b78e2c618fc10b3d14decc01df76158f15954ad746aacf0607766721da081f6", "aar"),
)
"""Of each, classes.jar goes onto the class path."""

LIBRARIES = (
    Pin("org.robolectric:annotations:4.16", "409f50354fc08b382a8fa8c42416438d3664d2cb4e63bf252022c875288fbf7a"),
    Pin("org.robolectric:junit:4.16", "2c9aca263f0c41b1f0452c88d28ad618e553325f0213ce75de42fb02dd5c0479"),
    Pin("org.robolectric:nativeruntime:4.16", "85c9c9763de195a166a2cfc88e8623b572bef92cb96f60342fcca3cbbd69ed25"),
    Pin(
        "org.robolectric:nativeruntime-dist-compat:1.0.18",
        "a6c34d92c990754e5aee076032a36f8e38fcacb5eb878ebe0a324509f3864eef",
    ),
    Pin("org.robolectric:pluginapi:4.16", "ffdb38f7d0a667e10d0609472ec13792018a69ccaf52c776166e03c61eae6428"),
    Pin(
        "org.robolectric:plugins-maven-dependency-resolver:4.16",
        "60858ba0f8c21b2ca38aca7bf18b0fb39ebd10ddf80ef74777fac9ba8909880a",
    ),
    Pin("org.robolectric:resources:4.16", "0d6abfd274d3c853a564ea23ce1c52d31d075281ae0e7d64bbbc1477b2ed7679"),
    Pin("org.robolectric:robolectric:4.16", "d5b073aa051c88995a621e13c9c0d2afd1be835800d59c80d58c1dbfd8eca19b"),
    Pin("org.robolectric:sandbox:4.16", "78462f9987db60b24283eebdf31a7f4d11487197f8508a2ea262aa5ca4bb0b18"),
    Pin("org.robolectric:shadowapi:4.16", "8502d044ab781668fc52eb8784dcacd50c54eaa819cf5cc5fbb1b8457c9931a6"),
    Pin("org.robolectric:shadows-framework:4.16", "f3ddb731c95cb4663634355bed62932ec8f2c7a3daab876885a16b48e1530eda"),
    Pin("org.robolectric:utils:4.16", "51940c4668ed065101c8a932c6b8a7efa7b546fd5a8e98180f40ac3840b27428"),
    Pin("org.robolectric:utils-reflector:4.16", "efa21dcd2d68b8f3e202580a141b5f338a33e194a46bcd33b70ddb9e6d5ad63d"),
    Pin("androidx.annotation:annotation-jvm:1.7.0", "e36b8e4b8393a4adc74e3d4ab22ad5a36396f0cea2e40b5734eae14937dfd224"),
    Pin("org.ow2.asm:asm:9.8", "876eab6a83daecad5ca67eb9fcabb063c97b5aeb8cf1fca7a989ecde17522051"),
    Pin("org.ow2.asm:asm-commons:9.8", "3301a1c1cb4c59fcc5292648dac1d7c5aed4c0f067dfbe88873b8cdfe77404f4"),
    Pin("org.ow2.asm:asm-tree:9.8", "14b7880cb7c85eed101e2710432fc3ffb83275532a6a894dc4c4095d49ad59f1"),
    Pin("org.bouncycastle:bcprov-jdk18on:1.81", "249f396412b0c0ce67f25c8197da757b241b8be3ec4199386c00704a2457459b"),
    Pin(
        "org.conscrypt:conscrypt-openjdk-uber:2.5.2", "eaf537d98e033d0f0451cd1b8cc74e02d7b55ec882da63c88060d806ba89c348"
    ),
    Pin("com.google.guava:failureaccess:1.0.3", "cbfc3906b19b8f55dd7cfd6dfe0aa4532e834250d7f080bd8d211a3e246b59cb"),
    Pin("com.google.guava:guava:33.4.8-jre", "f3d7f57f67fd622f4d468dfdd692b3a5e3909246c28017ac3263405f0fe617ed"),
    Pin("com.ibm.icu:icu4j:77.1", "b3640b9f416a4411fd33c59abbeea8fd57d024c23e1819bf9673220a97499fe3"),
    Pin(
        "javax.annotation:javax.annotation-api:1.3.2",
        "e04ba5195bcd555dc95650f7cc614d151e4bcd52d29a10b8aa2197f3ab89ab9b",
    ),
    Pin("javax.inject:javax.inject:1", "91c77044a50c481636c32d916fd89c9118a72195390452c81065080f957de7ff"),
    Pin("org.yaml:snakeyaml:2.4", "ef779af5d29a9dde8cc70ce0341f5c6f7735e23edff9685ceaa9d35359b7bb7f"),
    Pin(
        "com.almworks.sqlite4java:sqlite4java:1.0.392",
        "243a64470fda0e86a6fddeb0af4c7aa9426ce84e68cbfe18d75ee5da4b7e0b92",
    ),
    *JUNIT,
)

FOR_LAUNCH = (INSTRUMENTED, *ARCHIVES, *LIBRARIES)
