"""What every margin softmax shares: class centres, cosines, and a margin on each sample's own class alone."""

import torch
from torch import nn
from torch.nn import functional as F

from facekd.common.errors import UsageError


class MarginHead(nn.Module):
    """Base of the margin softmaxes; a subclass says what the target's logit becomes.

    Always computed in float32 (or float64 where the centres are): a bfloat16 cosine has steps of 0.004 near 1, as large
    as what the margin distinguishes.

    Args:
        embedding_width: e.
        num_identities: n.
        scale: s; logits are s times a cosine.

    Attributes:
        centres: the class centres [n, e]; only their direction matters. Of a sharded head, this rank's rows.
        owned: the classes [first, last) of a sharded head (facekd.heads.partial_fc); None: all of them.
        sample_rate: share of the centres that partial_fc's loss looks at in a step.

    Raises:
        UsageError: an argument out of range.
    """

    owned: tuple[int, int] | None = None
    sample_rate: float = 1.0

    def __init__(self, *, embedding_width: int, num_identities: int, scale: float = 64.0) -> None:
        super().__init__()
        if embedding_width < 1 or num_identities < 1:
            raise UsageError(
                f"head: embedding_width {embedding_width} and num_identities {num_identities} must be 1 or more"
            )
        if not scale > 0:
            raise UsageError(f"head: scale {scale} must be above 0")
        self.embedding_width = embedding_width
        self.num_identities = num_identities
        self.scale = scale
        # Standard deviation as InsightFace's: it sets the centres' effective learning rate, which is 1 / norm^2.
        self.centres = nn.Parameter(torch.empty(num_identities, embedding_width).normal_(0, 0.01))

    def target_cosine(self, theta: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
        """What replaces cos(theta) for a sample's own class.

        Args:
            theta: [b], angle in radians between each embedding and its own centre, in 0..pi.
            norms: [b], the raw embeddings' lengths, detached.

        Returns:
            [b], before scaling.
        """
        raise NotImplementedError

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Raw embeddings [b, e] and labels int64 [b] -> logits [b, n] for cross entropy.

        Raises:
            UsageError: a label outside 0..n-1, or embeddings of another width.
        """
        self._check_whole()
        self.check(embeddings, labels)
        with torch.autocast(device_type=embeddings.device.type, enabled=False):
            dtype = torch.promote_types(self.centres.dtype, torch.float32)
            embeddings = embeddings.to(dtype)
            units = F.normalize(embeddings)
            centres = F.normalize(self.centres.to(dtype))
            logits = F.linear(units * self.scale, centres)
            theta = angles(units, centres[labels])
            target = self.target_cosine(theta, torch.linalg.vector_norm(embeddings.detach(), dim=1))
            # Adding the difference in place touches b entries of the [b, n] logits and copies nothing of that size,
            # forward or backward; the matrix product does not need its output for its gradient.
            rows = torch.arange(len(labels), device=labels.device)
            change = self.scale * (target - torch.cos(theta))
            return logits.index_put_((rows, labels), change, accumulate=True)

    def cosines(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Raw embeddings [b, e] -> cosines to every centre [b, n], without margin or scale."""
        self._check_whole()
        with torch.autocast(device_type=embeddings.device.type, enabled=False):
            dtype = torch.promote_types(self.centres.dtype, torch.float32)
            return F.linear(F.normalize(embeddings.to(dtype)), F.normalize(self.centres.to(dtype)))

    def extra_repr(self) -> str:
        """What print(head) shows."""
        return f"embedding_width={self.embedding_width}, num_identities={self.num_identities}, scale={self.scale}"

    def _check_whole(self) -> None:
        if self.owned is not None:
            raise UsageError(f"head: only centres {self.owned[0]} to {self.owned[1] - 1} are here: use identity_loss")

    def check(self, embeddings: torch.Tensor, labels: torch.Tensor) -> None:
        """Raises UsageError for embeddings of another width, or a label outside 0..n-1.

        Labels on a device are taken as they are, since the host would wait for their values: `check_labels` looks at
        them before they go there.
        """
        if embeddings.ndim != 2 or embeddings.shape[1] != self.embedding_width:
            raise UsageError(f"head: embeddings are {list(embeddings.shape)}, not [b, {self.embedding_width}]")
        if labels.shape != embeddings.shape[:1]:
            raise UsageError(f"head: {len(embeddings)} embeddings but labels of shape {list(labels.shape)}")
        if labels.device.type == "cpu" and not torch.compiler.is_compiling():  # reading a value would break the graph
            self.check_labels(labels)

    def check_labels(self, labels: torch.Tensor) -> None:
        """Raises UsageError for a label outside 0..n-1."""
        outside = labels[(labels < 0) | (labels >= self.num_identities)]
        if len(outside):
            raise UsageError(
                f"head: label {int(outside[0])} is outside 0..{self.num_identities - 1}; "
                "is the head made for another data set?"
            )


def angles(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Angles in radians between unit vectors a and b, [b, e] each -> [b].

    theta = 2 atan2(|a - b|, |a + b|) (Kahan, "How Futile are Mindless Assessments of Roundoff", 2006, section 12):
    exact to rounding everywhere, with a gradient of length 1, where arccos loses half the digits near +-1 and its
    derivative is infinite there. Where a = b or a = -b the gradient is taken as 0.
    """
    return 2 * torch.atan2(torch.linalg.vector_norm(a - b, dim=1), torch.linalg.vector_norm(a + b, dim=1))


def monotone_cosine(phi: torch.Tensor) -> torch.Tensor:
    """cos(phi) up to pi, then on downwards: (-1)^k cos(phi) - 2k with k = floor(phi / pi), for phi >= 0.

    A margin can push theta + m past pi, where the cosine turns round and would reward a sample for moving away. This
    is SphereFace's continuation (arXiv 1704.08063, equation 7), facekd's choice: InsightFace's fallback
    cos(theta) - m sin(m) jumps at pi - m, by 0.117 for m = 0.5, so it has no exact derivative.
    """
    turns = torch.floor(phi.detach() / torch.pi)
    sign = 1 - 2 * torch.remainder(turns, 2)
    return sign * torch.cos(phi) - 2 * turns
