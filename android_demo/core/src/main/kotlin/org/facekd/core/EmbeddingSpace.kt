package org.facekd.core

/**
 * Which embeddings may be compared with one another.
 *
 * @property id of a model's own embeddings: sha256 of its file, unless its manifest states another.
 * @property compatibleWith earlier spaces whose stored samples this model may be compared with, as its manifest says
 *     (backward-compatible training: Shen et al., CVPR 2020). No other two are ever mixed.
 */
class EmbeddingSpace(val id: String, val compatibleWith: List<String> = emptyList()) {
    fun accepts(other: String): Boolean = other == id || other in compatibleWith
}
