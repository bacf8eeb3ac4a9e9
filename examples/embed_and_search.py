"""A folder of aligned faces as embeddings, and who a new photograph shows."""

import sys
import tempfile
from pathlib import Path

import numpy as np

import facekd


def main(out: Path, steps: int = 6) -> list[tuple[int, float]]:
    """Enrols 10 people with two photographs each and looks for them; returns (person, cosine) of each probe."""
    recipe = facekd.load_recipe(
        "quickstart-undistilled",
        [f"training.max_steps={steps}", "data.source=synthetic:identities=40,images=10", "evaluation.report=[]"],
    )
    model = facekd.open_model(facekd.run_recipe(recipe, out=out / "student").bundle)

    # A folder with one folder a person works the same: open_source("faces/").
    people = facekd.open_source("synthetic:identities=10,images=3,first_identity=5000")
    enrolled = [i for i in range(len(people)) if i % 3 < 2]
    templates = facekd.embed_images(model, [people.read(i) for i in enrolled])
    templates /= np.linalg.norm(templates, axis=1, keepdims=True)

    found = []
    for i in range(2, len(people), 3):  # the third photograph of each
        probe = facekd.embed_images(model, [people.read(i)])[0]
        cosines = templates @ (probe / np.linalg.norm(probe))
        best = int(cosines.argmax())
        found.append((int(people.labels[enrolled[best]]), float(cosines[best])))
    right = np.mean([person == people.labels[3 * number + 2] for number, (person, _) in enumerate(found)])
    print(f"{right:.0%} of 10 probes found at rank 1. To know who is not enrolled takes a threshold:")
    print("facekd evaluate BUNDLE --pairs SET --save-thresholds")
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(folder))
