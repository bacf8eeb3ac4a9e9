"""`facekd evaluate --benchmark` on small sets of exactly the published layouts, against plain loops over their files.

The model is one whose embedding anyone can compute: the means of 16x16 tiles.
"""

import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from facekd.cli import evaluate
from facekd.common.errors import FacekdError, UsageError
from facekd.data.alignment import TEMPLATE_112, align
from facekd.data.verification_bin import write_bin
from facekd.data.verification_set import VerificationSet
from facekd.evaluation.verification import verify_pairs

Embed = Callable[[np.ndarray], np.ndarray]


def face(person: int, seed: int, share: float = 0.5) -> np.ndarray:
    """Smooth noise, the same for a person but for its own share of noise."""
    own, other = (np.random.default_rng([7, kind]).integers(0, 256, (7, 7, 3)) for kind in (person, 1000 + seed))
    mixed = (share * own + (1 - share) * other).astype(np.uint8)
    return cv2.resize(mixed, (112, 112), interpolation=cv2.INTER_CUBIC)


def save(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1])


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x)


def call(*arguments: object) -> Result:
    app = typer.Typer()
    evaluate.register(app)
    app.callback()(lambda: None)
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def report(*arguments: object) -> dict:
    result = call(*arguments, "--json")
    assert result.exit_code == 0, result.exception or result.output
    return json.loads(result.stdout)


def make_ijb(
    root: Path, name: str, galleries: tuple[str, str], tiles: Embed
) -> dict[str, tuple[np.ndarray, int, int, float]]:
    """Twelve people in two galleries, one template each, and probe templates of fifteen; name -> its facts."""
    rng = np.random.default_rng(11)
    facts, lists = {}, {"5pts": [], "tid_mid": []}
    csvs: dict[str, list[str]] = {key: ["TEMPLATE_ID,SUBJECT_ID,FILENAME,SIGHTING_ID"] for key in (*galleries, "probe")}
    templates: list[tuple[int, int]] = []
    number = 0
    kinds = [(galleries[p % 2], p) for p in range(12)] + [("probe", p % 15) for p in range(40)]
    for template, (kind, person) in enumerate(kinds, 101):
        templates.append((template, person))
        for medium in range(rng.integers(1, 4)):
            for _ in range(rng.integers(1, 4)):
                number += 1
                photograph = np.zeros((140, 150, 3), np.uint8)
                image = face(person, number, 0.2)
                shift = rng.integers(5, 30, 2)
                photograph[shift[1] : shift[1] + 112, shift[0] : shift[0] + 112] = image[: 140 - shift[1]]
                landmarks = np.round(TEMPLATE_112 + shift, 3)
                score = round(float(rng.uniform(0.3, 1)), 4)
                file = f"{number}.png"
                save(root / "loose_crop" / file, photograph)
                numbers = " ".join(f"{value:.3f}" for value in landmarks.ravel())
                lists["5pts"].append(f"{file} {numbers} {score}")
                lists["tid_mid"].append(f"{file} {template} {1000 + medium}")
                csvs[kind].append(f"{template},{9000 + person},img/{file},{number}")
                facts[file] = (tiles(align(photograph, landmarks)), template, medium, score)
    pairs = [f"{a} {b} {int(p == q)}" for a, p in templates[:12] for b, q in templates[12:]]
    meta = root / "meta"
    meta.mkdir()
    (meta / f"{name}_name_5pts_score.txt").write_text("\n".join(lists["5pts"]) + "\n")
    (meta / f"{name}_face_tid_mid.txt").write_text("\n".join(lists["tid_mid"]) + "\n")
    (meta / f"{name}_template_pair_label.txt").write_text("\n".join(pairs) + "\n")
    for key in galleries:
        (meta / f"{name}_1N_gallery_{key}.csv").write_text("\n".join(csvs[key]) + "\n")
    (meta / f"{name}_1N_probe_mixed.csv").write_text("\n".join(csvs["probe"]) + "\n")
    return facts


def pooled(facts: dict[str, tuple[np.ndarray, int, int, float]], *, keep_norm: bool = True) -> dict[int, np.ndarray]:
    groups: dict[int, dict[int, list[np.ndarray]]] = defaultdict(lambda: defaultdict(list))
    for feature, template, medium, score in facts.values():
        groups[template][medium].append((feature if keep_norm else unit(feature)) * score)
    return {template: unit(sum(np.mean(m, axis=0) for m in media.values())) for template, media in groups.items()}


@pytest.mark.parametrize(("name", "galleries"), [("ijbb", ("S1", "S2")), ("ijbc", ("G1", "G2"))])
def test_ijb_one_to_one_and_one_to_many(
    bundle: Path, tiles: Embed, tmp_path: Path, name: str, galleries: tuple[str, str]
) -> None:
    root, cache = tmp_path / "IJB", tmp_path / "cache"
    facts = make_ijb(root, name, galleries, tiles)
    arguments = (bundle, "--benchmark", name, "--data", root, "--features", cache)
    first = report(*arguments, "--out", tmp_path / "out")
    figures = first["figures"]
    assert first["features"][name]["computed_now"] == len(facts) == figures["images"]
    assert json.loads((tmp_path / "out" / f"{name}.json").read_text())["figures"] == figures
    templates = pooled(facts)

    lines = (root / "meta" / f"{name}_template_pair_label.txt").read_text().split("\n")[:-1]
    rows = [tuple(map(int, line.split())) for line in lines]
    genuine = [templates[a] @ templates[b] for a, b, same in rows if same]
    impostor = sorted((templates[a] @ templates[b] for a, b, same in rows if not same), reverse=True)
    one = figures["1:1"]
    assert (one["pairs"], one["genuine"]) == (480, len(genuine))
    for far, tar in one["tar_at_far"].items():
        count = round(float(far) * len(impostor))
        assert one["measured_far"][far] == pytest.approx(count / len(impostor))
        assert tar == pytest.approx(np.mean([score > impostor[count] for score in genuine]))
    assert one["tar_at_far"]["1e-3"] < one["tar_at_far"]["1e-1"], "the set must tell rates apart"

    def people(kind: str) -> dict[int, int]:
        path = root / "meta" / f"{name}_1N_{kind}.csv"
        return {int(a): int(b) for a, b in (line.split(",")[:2] for line in path.read_text().split("\n")[1:-1])}

    probes, ranks, tpirs = people("probe_mixed"), [], []
    for key in galleries:
        gallery = people(f"gallery_{key}")
        hits, scores, strangers = [], [], []
        for template, person in probes.items():
            found = sorted(((templates[template] @ templates[g], who) for g, who in gallery.items()), reverse=True)
            who = [subject for _, subject in found]
            if person in who:
                hits.append(who.index(person) + 1)
                scores.append(found[who.index(person)][0])
            else:
                strangers.append(found[0][0])
        limit = sorted(strangers, reverse=True)[int(0.1 * len(strangers))]
        result = figures["1:N"][key]
        assert (result["mated_probes"], result["non_mated_probes"]) == (len(hits), len(strangers))
        assert result["unsupported_fpirs"] == ["1e-2"]
        ranks.append([np.mean([hit <= k for hit in hits]) for k in (1, 5, 10)])
        tpirs.append(np.mean([hit == 1 and score > limit for hit, score in zip(hits, scores, strict=True)]))
        assert list(result["rank"].values()) == pytest.approx(ranks[-1])
        assert result["tpir_at_fpir"]["1e-1"] == pytest.approx(tpirs[-1])
    assert list(figures["1:N"]["mean"]["rank"].values()) == pytest.approx(np.mean(ranks, axis=0))
    assert figures["1:N"]["mean"]["tpir_at_fpir"] == {"1e-1": pytest.approx(np.mean(tpirs))}

    again = report(*arguments, "--no-keep-norm")
    assert again["features"][name]["computed_now"] == 0, "another pooling needs no new features"
    a, b, _ = rows[0]
    other = pooled(facts, keep_norm=False)
    assert abs(other[a] @ other[b] - templates[a] @ templates[b]) > 1e-6
    table = call(*arguments)
    assert table.exit_code == 0, table.output
    assert f"{name} 1:1, 480 pairs" in table.output


def test_ijb_lists_that_disagree_are_refused(bundle: Path, tiles: Embed, tmp_path: Path) -> None:
    root = tmp_path / "IJB"
    make_ijb(root, "ijbc", ("G1", "G2"), tiles)
    arguments = (bundle, "--benchmark", "ijbc", "--data", root, "--features", tmp_path / "cache")

    def error(file: str, old: str, new: str) -> str:
        path = root / "meta" / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))
        result = call(*arguments)
        path.write_text(text)
        assert isinstance(result.exception, FacekdError), result.output
        assert "\n" not in str(result.exception)
        return str(result.exception)

    assert "same images in the same order" in error("ijbc_face_tid_mid.txt", "1.png", "2.png")
    assert "line 1" in error("ijbc_name_5pts_score.txt", "1.png ", "1.png 3 ")
    assert "ijbc_name_5pts_score.txt" in error("ijbc_name_5pts_score.txt", "1.png ", "1.png x").replace(" ", " ")
    assert "template 999" in error("ijbc_template_pair_label.txt", "101 113", "999 113")
    assert "label" in error("ijbc_template_pair_label.txt", "101 113 1", "101 113 2")
    assert "two people" in error("ijbc_1N_probe_mixed.csv", "\n113,", "\n113,1,x,1\n113,")
    (root / "loose_crop" / "3.png").unlink()
    assert "the first 3.png" in str(call(*arguments).exception)


def test_megaface(bundle: Path, tiles: Embed, tmp_path: Path) -> None:
    root = tmp_path / "megaface_testpack"
    probes, distractors = [], []
    for person in range(5):
        for i in range(4):
            name = f"Person_{person}/Person_{person}_{i}.png"
            probes.append((name, person, face(person, 10 * person + i, 0.35)))
    for i in range(60):
        distractors.append((f"{i % 3}/user@N{i % 7:02}/{i}.png", face(500 + i, 500 + i)))
    for folder, items in (("facescrub", [(n, x) for n, _, x in probes]), ("megaface", distractors)):
        for name, image in items:
            save(root / f"{folder}_images" / name, image)
        (root / f"{folder}_lst").write_text("".join(f"{name}\n" for name, _ in items))
    (root / "facescrub_noises.txt").write_text("# wrong people\nPerson_1_2.png\n")
    (root / "megaface_noises.txt").write_text("# faces of probes\n17\t2/user@N03/17.png\n")
    result = report(bundle, "--benchmark", "megaface", "--data", root, "--features", tmp_path / "cache")["figures"]

    clean = [(person, unit(tiles(image))) for name, person, image in probes if "Person_1_2" not in name]
    others = [unit(tiles(image)) for name, image in distractors if not name.endswith("/17.png")]
    won = []
    for i, (p, a) in enumerate(clean):
        for j, (q, b) in enumerate(clean):
            if i != j and p == q:
                won.append(a @ b > max(b @ x for x in others))
    assert (result["probes"], result["distractors"]) == (19, 59)
    assert (result["noisy_probes_left_out"], result["noisy_distractors_left_out"]) == (1, 1)
    assert result["rank1"] == pytest.approx(np.mean(won))
    assert 0 < result["rank1"] < 1, "the set must tell models apart"
    assert result["unsupported_fars"] == ["1e-6"]
    assert "cannot show a FAR of 1e-6" in call(
        bundle, "--benchmark", "megaface", "--data", root, "--features", tmp_path / "cache"
    ).output.replace("\n", " ")


def test_tinyface(bundle: Path, tiles: Embed, tmp_path: Path) -> None:
    savemat = pytest.importorskip("scipy.io", reason="TinyFace's lists are .mat files").savemat
    root = tmp_path / "tinyface" / "Testing_Set"
    sets: dict[str, list[tuple[str, int, np.ndarray]]] = {"Probe": [], "Gallery_Match": [], "Gallery_Distractor": []}
    for i in range(45):
        person = i % 9 + 1
        kind = "Probe" if i % 5 < 2 else "Gallery_Match"
        sets[kind].append((f"{person}_{i}.png", person, face(person, i, 0.3)))
    for i in range(30):
        sets["Gallery_Distractor"].append((f"{i:06}.png", -1, face(200 + i, 200 + i)))
    for kind, items in sets.items():
        for name, _, image in items:
            save(root / kind / name, image)
    for kind, prefix, key in (("Probe", "probe", "probe"), ("Gallery_Match", "gallery_match", "gallery")):
        cells = np.empty((len(sets[kind]), 1), dtype=object)
        cells[:, 0] = [name for name, _, _ in sets[kind]]
        ids = np.array([[person] for _, person, _ in sets[kind]], dtype=np.uint16)
        savemat(root / f"{prefix}_img_ID_pairs.mat", {f"{key}_set": cells, f"{key}_ids": ids})
    arguments = (bundle, "--benchmark", "tinyface", "--data", tmp_path / "tinyface", "--features", tmp_path / "cache")
    result = report(*arguments)["figures"]

    gallery = [(p, unit(tiles(x))) for _, p, x in sets["Gallery_Match"] + sets["Gallery_Distractor"]]
    hits = []
    for _, person, image in sets["Probe"]:
        order = sorted(((unit(tiles(image)) @ feature, who) for who, feature in gallery), reverse=True)
        hits.append(next(rank for rank, (_, who) in enumerate(order, 1) if who == person))
    assert result["rank"] == {str(k): pytest.approx(np.mean([hit <= k for hit in hits])) for k in (1, 5, 10, 20)}
    assert 0 < result["rank"]["1"] < result["rank"]["20"] < 1.01
    assert (result["gallery"], result["distractors"]) == (57, 30)
    assert "rank 20" in call(*arguments).output
    (root / "probe_img_ID_pairs.mat").write_bytes(b"not a mat file" * 20)
    damaged = call(*arguments).exception
    assert isinstance(damaged, FacekdError), damaged
    assert "probe_img_ID_pairs.mat" in str(damaged)


def test_rfw(bundle: Path, tiles: Embed, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    expected = {}
    for number, group in enumerate(("African", "Asian", "Caucasian", "Indian")):
        issame = np.arange(60) // 3 % 2 == 0
        images = []
        for i, same in enumerate(issame):
            person = 100 * number + 2 * i
            share = 0.28 + 0.05 * number
            images += [face(person, person, share), face(person if same else person + 1, rng.integers(9999), share)]
        write_bin(tmp_path / f"{group}_test.bin", VerificationSet(group, images, issame))
        expected[group] = verify_pairs(np.array([tiles(image) for image in images]), issame).accuracy
    result = report(bundle, "--benchmark", "rfw", "--data", tmp_path)["figures"]
    assert result["accuracy"] == pytest.approx(expected)
    errors = [1 - accuracy for accuracy in expected.values()]
    assert len(set(errors)) > 1
    assert result["mean"] == pytest.approx(np.mean(list(expected.values())))
    assert result["skewed_error_ratio"] == pytest.approx(max(errors) / min(errors))
    assert "skewed error ratio" in call(bundle, "--benchmark", "rfw", "--data", tmp_path).output
    (tmp_path / "Asian_test.bin").unlink()
    assert "Asian_test.bin" in str(call(bundle, "--benchmark", "rfw", "--data", tmp_path).exception)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give one of --pairs SET, --benchmark NAME --data FOLDER and --gallery SIZES"),
        (["--benchmark", "ijbz", "--data", "."], "valid are ijbb, ijbc, megaface, rfw, tinyface"),
        (["--benchmark", "ijbc"], "needs --data"),
        (["--benchmark", "ijbc", "--data", "nowhere"], "no folder nowhere"),
        (["--benchmark", "ijbc", "--data", "."], "ijbc_name_5pts_score.txt"),
        (["--benchmark", "megaface", "--data", "."], "facescrub_lst"),
        (["--benchmark", "tinyface", "--data", "."], "probe_img_ID_pairs.mat"),
        (["--benchmark", "rfw", "--data", "."], "African_test.bin"),
        (["--benchmark", "rfw", "--data", ".", "--scores", "s.csv"], "--scores belongs to --pairs"),
        (["--pairs", "x.bin", "--data", "."], "--data and --features belong to --benchmark"),
    ],
)
def test_wrong_usage_is_one_line(
    bundle: Path, arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call(bundle, *arguments)
    assert isinstance(result.exception, UsageError), result.exception
    assert words in str(result.exception)
    assert "\n" not in str(result.exception)


PROTOCOL_OF_MINE = """
from facekd.common.table import Table
from facekd.data.image_list import ImageList
from facekd.evaluation.protocols import PublishedProtocol

class Names(PublishedProtocol):
    def run(self, folder, embedder, features, options):
        images = ImageList(folder, sorted(path.name for path in folder.glob("*.png")))
        return "the mean of all features", {"mean": float(features("names", images).mean())}

    def tables(self, figures):
        return [Table(["figure", "value"], [["mean", figures["mean"]]], title="names")]
"""


def test_a_protocol_of_another_package(
    bundle: Path, tiles: Embed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "names_of_mine.py").write_text(PROTOCOL_OF_MINE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("FACEKD_TRUSTED_MODULES", raising=False)
    save(tmp_path / "images" / "a.png", face(0, 0))
    arguments = (bundle, "--benchmark", "names_of_mine:Names", "--data", tmp_path / "images")
    arguments += ("--features", tmp_path / "features")
    refused = call(*arguments)
    assert refused.exit_code and "FACEKD_TRUSTED_MODULES=names_of_mine" in str(refused.exception)
    monkeypatch.setenv("FACEKD_TRUSTED_MODULES", "names_of_mine")
    mean = report(*arguments, "--out", tmp_path / "out")["figures"]["mean"]
    assert mean == pytest.approx(tiles(face(0, 0)).mean(), abs=1e-4)
    assert json.loads((tmp_path / "out" / "names_of_mine.Names.json").read_text())["figures"]["mean"] == mean
    assert "the mean of all features" in call(*arguments).output
