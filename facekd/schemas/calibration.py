"""Thresholds of a model for false accept rates, measured on faces with identities, and how sure they are."""

from pydantic import Field

from facekd.common.validation import StrictSchema


class CalibratedThreshold(StrictSchema):
    """One point of the tail of the impostor scores.

    Attributes:
        far: the false accept rate it was chosen for; at most this share of the impostor pairs scores above it.
        threshold_cos: accept if the cosine is greater.
        far_low, far_high: 95 % interval of the rate at this threshold.
    """

    far: float = Field(gt=0, lt=1)
    threshold_cos: float
    far_low: float = Field(ge=0, le=1)
    far_high: float = Field(ge=0, le=1)


class Calibration(StrictSchema):
    """A table of thresholds and what it rests on.

    Attributes:
        faces: the source they were measured on.
        fingerprint: sha256 of that source.
        images, identities: of it.
        impostor_pairs: pairs of images of two people.
        method: how the intervals were made, in words.
        thresholds: by falling rate; the last one is the lowest rate that the faces support.
    """

    faces: str
    fingerprint: str
    images: int
    identities: int
    impostor_pairs: int
    method: str
    thresholds: list[CalibratedThreshold] = Field(min_length=1)

    @property
    def lowest_far(self) -> float:
        """The lowest false accept rate that the faces support."""
        return self.thresholds[-1].far

    def threshold_for(self, far: float) -> CalibratedThreshold | None:
        """The threshold of the largest rate in the table that is not above `far`; None where the table ends before."""
        return next((entry for entry in self.thresholds if entry.far <= far * (1 + 1e-9)), None)
