package org.facekd.core

/** Everything that is stored of one person, as the JSON that they can ask for; the embeddings are numbers of this model alone. */
fun personalData(person: String, modelId: String, stored: List<Template>): String {
    val own = stored.filter { it.person == person }
    fun number(value: Double): Double? = value.takeIf { it.isFinite() }
    return Json.write(
        linkedMapOf(
            "schema_version" to 1,
            "person" to person,
            "model_sha256" to modelId,
            "pictures" to "none are kept",
            "samples" to own.map { sample ->
                linkedMapOf(
                    "created_ms" to sample.createdMs,
                    "consent" to linkedMapOf("given_ms" to sample.consent.givenMs, "text_version" to sample.consent.textVersion),
                    "quality" to linkedMapOf(
                        "eye_distance" to number(sample.quality.eyeDistance),
                        "roll_degrees" to number(sample.quality.pose.rollDegrees),
                        "yaw" to number(sample.quality.pose.yaw),
                        "pitch" to number(sample.quality.pose.pitch),
                        "brightness" to number(sample.quality.brightness),
                        "sharpness" to number(sample.quality.sharpness),
                    ),
                    "embedding" to sample.embedding.toList(),
                )
            },
        ),
    )
}
