"""Networks of this field that are recognised and cannot be imported, and why."""

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Unsupported:
    """A public network that none here reproduces.

    Attributes:
        name: of the network.
        marks: patterns, each of which some name matches in full.
        why: it cannot be imported, and what to do.
    """

    name: str
    marks: tuple[str, ...]
    why: str


UNSUPPORTED = (
    Unsupported(
        "CVLface's KP-RPE network",
        (r"keypoint_linear.*",),
        "it takes five landmarks beside each image, which a teacher here is not given",
    ),
    Unsupported(
        "CVLface's iRPE network",
        (r"(.*\.)?attn\.rpe_[qkv]\..*",),
        "its relative position encoding is in no network here; import CVLface's plain ViT",
    ),
    Unsupported(
        "part fViT",
        (r"mobilenet\..*", r"vit\.blocks\..*"),
        "it samples its patches at places that a MobileNet finds",
    ),
    Unsupported(
        "SwinFace",
        (r"(fam|tss|om)\..*",),
        "its embedding needs attention over the features of all stages; export it to ONNX and name that as the teacher",
    ),
    Unsupported(
        "SwinFace's backbone",
        (r"layers\.0\.blocks\.0\.attn\.relative_position_bias_table", r"feature\.0\.weight"),
        "its embedding needs attention over the features of all stages; export it to ONNX and name that as the teacher",
    ),
    Unsupported(
        "Face-Transformer",
        (r"(patch_to_embedding|soft_split)\..*", r"transformer\.layers\.0\.0\.fn\..*"),
        "its overlapping patches and its attention's scale are in no network here; export it to ONNX",
    ),
    Unsupported(
        "an IR-SE network",
        (r"input_layer\.0\.weight", r"body\.\d+\.res_layer\.(se_block|5)\.fc1\.weight"),
        "its squeeze-and-excitation blocks are in no network here; export it to ONNX",
    ),
    Unsupported(
        "an IR-152 or IR-200",
        (r"input_layer\.0\.weight", r"body\.0\.res_layer\.8\..*"),
        "its bottleneck blocks are in no network here; export it to ONNX",
    ),
    Unsupported(
        "a model of facekd without its card",
        (r"(body|stem|stages)\..*", r"(neck\.\d+|head\.norm_out|head\.norm)\..*"),
        "use the bundle's folder, or give the --description that came with the weights",
    ),
)
"""Looked at in this order."""


def find_unsupported(names: Iterable[str]) -> Unsupported | None:
    """The network whose marks all are among the names; None without one."""
    listed = list(names)
    for network in UNSUPPORTED:
        if all(any(re.fullmatch(mark, name) for name in listed) for mark in network.marks):
            return network
    return None
