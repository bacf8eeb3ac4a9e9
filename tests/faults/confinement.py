"""Inputs whose names and links point out of the output folder: nothing may be written anywhere else."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.faults.children import call_verb, run_child

Words = Callable[[Path], list[str | Path]]
OUTSIDE = "../../outside"


def confine(folder: Path) -> dict[str, list[str]]:
    """Trick -> what was written outside of the output folder, or otherwise wrong."""
    from facekd.data.packing import write_folder
    from facekd.data.sources.records import RecordReader
    from facekd.data.sources.synthetic import SyntheticSource
    from facekd.schemas.record import append_record
    from tests.faults.sample import sample_record
    from tests.faults.targets import make_bundle

    folder.mkdir(parents=True)
    photographs = folder / "in" / "photographs"
    write_folder(SyntheticSource(identities=2, images=2, seed=0), photographs)
    secret = folder / "secret"
    secret.mkdir()
    (secret / "kept.txt").write_text("mine", encoding="utf-8")
    one = next(photographs.rglob("*.jpg"))
    (secret / "face.jpg").write_bytes(one.read_bytes())
    (one.parent / "link.jpg").symlink_to(secret / "face.jpg")
    (photographs / "linked").symlink_to(secret)
    (photographs / "loop").symlink_to(photographs)
    bundle = make_bundle(folder / "in" / "bundle")
    card = json.loads((bundle / "card.json").read_text(encoding="utf-8"))
    (bundle / "card.json").write_text(json.dumps(card | {"name": OUTSIDE}), encoding="utf-8")
    record = sample_record()
    for name in (OUTSIDE, "/etc/outside", "a\x00b"):
        model = record.model.model_copy(update={"name": name})
        append_record(folder / "in" / "r.jsonl", record.model_copy(update={"model": model}))
    wrong: dict[str, list[str]] = {}

    def run(
        trick: str, words: Callable[[Path], list[str | Path]], prepare: Callable[[Path], None] | None = None
    ) -> None:
        place = folder / f"out-{len(wrong)}"
        place.mkdir()
        if prepare is not None:
            prepare(place)
        ended = run_child(call_verb(*words(place)), limit_s=300, inside=place)
        wrong[trick] = [*ended.deeds]
        if ended.how not in ("done", "refused") or "Traceback" in ended.output or "unexpected" in ended.output:
            wrong[trick].append(f"{ended.how} {ended.said} {ended.output[-200:]}")
        kept = secret / "kept.txt"
        if sorted(path.name for path in secret.iterdir()) != ["face.jpg", "kept.txt"] or kept.read_text() != "mine":
            wrong[trick].append("a file outside was changed")

    def link(place: Path) -> None:
        (place / "train.rec").symlink_to(secret / "kept.txt")
        (place / "train.idx").symlink_to(secret / "new.idx")

    run("links and a loop among the photographs", lambda out: ["data", "pack", photographs, out / "faces"])
    run("links in place of the output", lambda out: ["data", "pack", photographs, out, "--overwrite"], link)
    run("a bundle named ../../outside, evaluated", lambda out: [
        "evaluate", bundle, "--pairs", "synthetic:identities=3,pairs=10", "--out", out / "report", "--threads", "1",
    ])  # fmt: skip
    run(
        "a bundle named ../../outside, exported", lambda out: ["export", bundle, "--target", "onnx", "--out", out / "a"]
    )
    run("records named ../../outside, reported", lambda out: [
        "benchmark", "report", folder / "in" / "r.jsonl", "--out", out / "report",
    ])  # fmt: skip
    packed = folder / "out-0" / "faces"
    if (packed / "train.rec").exists() and len(RecordReader(packed)) > 16:
        wrong["links and a loop among the photographs"].append("a loop was followed")
    return wrong
