package org.facekd.core

/** Why a picture does not do; the app has a sentence for each. */
enum class Refusal { NO_FACE, SEVERAL_FACES, TOO_SMALL, TURNED, TILTED, NODDED, TOO_DARK, BLURRED }

/** What a picture must be for enrolment: one face alone, above [floor]. */
class EnrolmentPolicy(private val floor: QualityFloor = QualityFloor.ENROLMENT) {
    /** Everything that speaks against [image] with these [faces], the gravest first; empty when it will do. */
    fun refusals(image: RgbImage, faces: List<Face>): List<Refusal> = when (faces.size) {
        0 -> listOf(Refusal.NO_FACE)
        1 -> floor.faults(Quality.of(image, faces.single().landmarks))
        else -> listOf(Refusal.SEVERAL_FACES)
    }
}
