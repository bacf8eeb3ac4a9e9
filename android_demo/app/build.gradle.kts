import org.jetbrains.kotlin.gradle.dsl.JvmTarget

plugins {
    alias(libs.plugins.android.application)
    alias(libs.plugins.kotlin.android)
}

/** Copies the exported artefact and the detector to where the app looks for them; changes nothing in them. */
abstract class CopyModel : DefaultTask() {
    @get:InputDirectory
    @get:PathSensitive(PathSensitivity.RELATIVE)
    abstract val model: DirectoryProperty

    @get:InputFile
    @get:PathSensitive(PathSensitivity.NONE)
    abstract val detector: RegularFileProperty

    @get:OutputDirectory
    abstract val assets: DirectoryProperty

    @get:Inject
    abstract val files: FileSystemOperations

    @TaskAction
    fun copy() {
        files.sync {
            into(assets)
            from(model) {
                into("model")
                exclude("*.log")
            }
            from(detector) {
                into("detector")
                rename { "yunet.onnx" }
            }
        }
    }
}

val copyModel = tasks.register<CopyModel>("copyModel") {
    model = layout.projectDirectory.dir(providers.gradleProperty("facekd.model"))
    detector = layout.projectDirectory.file(providers.gradleProperty("facekd.detector"))
}

androidComponents {
    onVariants { variant -> variant.sources.assets?.addGeneratedSourceDirectory(copyModel, CopyModel::assets) }
}

android {
    namespace = "org.facekd.demo"
    compileSdk = 35

    defaultConfig {
        applicationId = "org.facekd.demo"
        minSdk = 26
        targetSdk = 35
        versionCode = 1
        versionName = "0.1.0"
    }

    // An APK a processor: both libraries together are beyond the budget of 25 MB.
    splits {
        abi {
            isEnable = true
            reset()
            include("arm64-v8a", "x86_64")
            isUniversalApk = false
        }
    }

    sourceSets["main"].kotlin.srcDir("../runtime/src/main/kotlin")

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_1_8
        targetCompatibility = JavaVersion.VERSION_1_8
    }

    // Compressed in the APK.
    packaging { jniLibs.useLegacyPackaging = true }
}

kotlin {
    compilerOptions.jvmTarget = JvmTarget.JVM_1_8
}

dependencies {
    implementation(project(":core"))
    implementation(libs.onnxruntime.android)
}
