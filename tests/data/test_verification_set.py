"""Verification sets: published files, pickles that attack, Python 2's pickles, pairs.txt."""

import os
import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from facekd.common.errors import FacekdError, UsageError
from facekd.data.decoding import encode_png
from facekd.data.opening import load_verification_set
from facekd.data.verification_bin import write_bin
from facekd.data.verification_set import VerificationSet


def picture(value: int) -> np.ndarray:
    return np.full((112, 112, 3), value, np.uint8)


def images(count: int) -> list[bytes]:
    return [encode_png(picture(k)) for k in range(count)]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", ["bytes", "encoded arrays", "pixel arrays", "empty bytes among them"])
def test_every_pickle_protocol_and_storage_is_read(tmp_path: Path, protocol: int, kind: str) -> None:
    stored: list[Any] = images(4)
    if kind == "encoded arrays":
        stored = [np.frombuffer(data, np.uint8) for data in stored]
    elif kind == "pixel arrays":
        stored = [picture(k) for k in range(4)]
    elif kind == "empty bytes among them":
        stored = [*stored, b"", stored[0]]
    truths = [True, False] if len(stored) == 4 else [True, False, True]
    (tmp_path / "set.bin").write_bytes(pickle.dumps((stored, truths), protocol=protocol))
    pairs = load_verification_set(tmp_path / "set.bin")
    assert len(pairs) == len(truths) and pairs.issame.tolist() == truths and pairs.name == "set"
    for i in range(4):
        np.testing.assert_array_equal(pairs.image(i), picture(i))


@pytest.mark.parametrize("truths", [np.array([True, False]), [np.True_, np.False_], [1, 0], (True, False)])
def test_truths_as_numpy_or_numbers(tmp_path: Path, truths: Any) -> None:
    (tmp_path / "set.bin").write_bytes(pickle.dumps((images(4), truths)))
    assert load_verification_set(tmp_path / "set.bin").issame.tolist() == [True, False]


def python2_pickle(values: list[bytes], truths: list[bool]) -> bytes:
    """Protocol 2 as Python 2 wrote it: a str is SHORT_BINSTRING or BINSTRING, which Python 3 never writes."""
    out = b"\x80\x02]("
    for value in values:
        out += (
            b"U" + bytes([len(value)]) + value if len(value) < 256 else b"T" + len(value).to_bytes(4, "little") + value
        )
    out += b"e]("
    for truth in truths:
        out += b"\x88" if truth else b"\x89"
    return out + b"e\x86."


def test_python_2_strings_are_bytes(tmp_path: Path) -> None:
    noisy = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    stored = [encode_png(noisy), *images(3)]
    assert len(stored[0]) > 255
    (tmp_path / "set.bin").write_bytes(python2_pickle(stored, [True, False]))
    pairs = load_verification_set(tmp_path / "set.bin")
    np.testing.assert_array_equal(pairs.image(0), noisy)


@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"])
def test_arrays_of_both_numpy_generations(tmp_path: Path, core: bytes) -> None:
    data = pickle.dumps(([picture(k) for k in range(2)], np.array([True])), protocol=2)
    for name in (b"numpy._core", b"numpy.core"):
        data = data.replace(b"c" + name + b".multiarray\n", b"c" + core + b".multiarray\n")
    assert core + b".multiarray\n_reconstruct" in data
    (tmp_path / "set.bin").write_bytes(data)
    np.testing.assert_array_equal(load_verification_set(tmp_path / "set.bin").image(1), picture(1))


class Attack:
    """Pickles to a call of its choice."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def _attacks(mark: Path) -> dict[str, Any]:
    return {
        f"{os.system.__module__}.system": Attack(os.system, f"touch {mark}"),
        "builtins.eval": Attack(eval, f"open({str(mark)!r}, 'w')"),
        "builtins.exec": Attack(exec, f"open({str(mark)!r}, 'w')"),
        "builtins.getattr": Attack(getattr, "a", "upper"),
        "io.open": Attack(open, str(mark), "w"),
        "numpy.load": Attack(np.load, "nowhere.npy"),
    }


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("name", list(_attacks(Path("x"))))
def test_a_pickle_that_runs_code_is_refused_by_name(tmp_path: Path, name: str, protocol: int) -> None:
    mark = tmp_path / "ran"
    attack = _attacks(mark)[name]
    (tmp_path / "set.bin").write_bytes(pickle.dumps(([attack, *images(1)], [True]), protocol=protocol))
    with pytest.raises(FacekdError) as caught:
        load_verification_set(tmp_path / "set.bin")
    module, _, function = name.rpartition(".")
    shown = str(caught.value)
    assert "refused" in shown and f".{function}" in shown and "\n" not in shown
    assert module.split(".")[0] in shown or module == "builtins"  # Python 2's protocols say __builtin__
    assert not mark.exists()


@pytest.mark.parametrize(
    "payload",
    [
        b"c_codecs\nencode\n(Vabc\nVrot13\ntR.",  # another codec
        b"cnumpy\ndtype\n(VO\ntR.",  # arrays of objects
        b"cbuiltins\nbytes\n(I1000000000000\ntR.",  # a terabyte
        b"cfacekd.data.verification_set\nnp\n.",
        b"cbuiltins\nlist.__class__\n.",
        b"Pexternal\n.",
        b"\x80\x04\x8c\x08builtins\x8c\x0dlist.__init__\x93.",
    ],
)
def test_side_doors_are_closed(tmp_path: Path, payload: bytes) -> None:
    (tmp_path / "set.bin").write_bytes(payload)
    with pytest.raises(FacekdError, match="refused"):
        load_verification_set(tmp_path / "set.bin")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged"),
        (b"PK\x03\x04 not a pickle", "damaged"),
        (pickle.dumps((images(4), [True, False]))[:-200], "damaged"),
        (pickle.dumps({"a": 1}), "does not hold"),
        (pickle.dumps(([1, 2], [True])), "image 0 is a int"),
        (pickle.dumps((images(3), [True, False])), "3 images for 2 pairs"),
        (pickle.dumps(([], [])), "no pair"),
        (pickle.dumps((images(2), ["yes"])), "not truths"),
    ],
)
def test_damaged_files_are_refused_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "set.bin").write_bytes(content)
    with pytest.raises(FacekdError, match=message) as caught:
        load_verification_set(tmp_path / "set.bin")
    assert "\n" not in str(caught.value)


def test_writing_and_reading_again(tmp_path: Path) -> None:
    pairs = VerificationSet("made", [*images(2), picture(7), picture(8)], [True, False])
    write_bin(tmp_path / "made.bin", pairs)
    again = load_verification_set(tmp_path / "made.bin")
    assert again.issame.tolist() == [True, False]
    assert all((again.image(i) == pairs.image(i)).all() for i in range(4))
    plain = pickle.loads((tmp_path / "made.bin").read_bytes(), encoding="bytes")  # what the field's code does
    assert isinstance(plain[0][2], bytes) and plain[1] == [True, False]
    with pytest.raises(UsageError, match="--overwrite"):
        write_bin(tmp_path / "made.bin", pairs)
    assert again.fingerprint() == load_verification_set(tmp_path / "made.bin").fingerprint()


def test_the_shared_sets(shared: Path) -> None:
    lfw, dev = load_verification_set(shared / "data/lfw.bin"), load_verification_set(shared / "data/lfw_dev.bin")
    assert (len(lfw), int(lfw.issame.sum())) == (6000, 3000)
    assert lfw.issame.reshape(10, 2, 300).tolist() == [[[True] * 300, [False] * 300]] * 10
    assert (len(dev), int(dev.issame.sum())) == (1000, 500)
    assert lfw.image(11999).shape == (112, 112, 3) and lfw.image(0).dtype == np.uint8


def write_pairs(folder: Path, header: str, lines: list[str]) -> Path:
    (folder / "pairs.txt").write_text("\n".join([header, *lines]) + "\n")
    return folder / "pairs.txt"


def lfw_folder(folder: Path) -> Path:
    for value, (name, count) in enumerate({"Ann_B": 3, "Carl_D": 2, "Eve": 1}.items()):
        (folder / name).mkdir(parents=True)
        for k in range(1, count + 1):
            cv2.imwrite(str(folder / name / f"{name}_{k:04d}.png"), picture(10 * value + k))
    return folder


def test_pairs_txt_view_2_and_view_1(tmp_path: Path) -> None:
    photographs = lfw_folder(tmp_path / "raw")
    view2 = write_pairs(tmp_path, "2\t1", ["Ann_B\t1\t3", "Ann_B\t2\tEve\t1", "Carl_D\t1\t2", "Carl_D\t2\tAnn_B\t1"])
    pairs = load_verification_set(view2, photographs)
    assert pairs.issame.tolist() == [True, False, True, False] and pairs.fold_sizes == [2, 2]
    assert [int(pairs.image(i)[0, 0, 0]) for i in range(8)] == [1, 3, 2, 21, 11, 12, 12, 1]
    assert pairs.key(3) == "Eve/Eve_0001.png"
    second = load_verification_set(view2, photographs, folds=[2])
    assert second.issame.tolist() == [True, False] and int(second.image(0)[0, 0, 0]) == 11
    view1 = write_pairs(tmp_path, "2", ["Ann_B\t1\t2", "Carl_D\t1\t2", "Ann_B\t1\tEve\t1", "Eve\t1\tCarl_D\t1"])
    assert load_verification_set(view1, photographs).issame.tolist() == [True, True, False, False]


def test_missing_photographs_are_counted_and_the_first_named(tmp_path: Path) -> None:
    photographs = lfw_folder(tmp_path / "raw")
    path = write_pairs(tmp_path, "2\t1", ["Ann_B\t1\t3", "Ann_B\t2\tEve\t1", "Carl_D\t1\t5", "Carl_D\t2\tFay\t1"])
    with pytest.raises(FacekdError, match=r"2 of 8 photographs .*first Carl_D/Carl_D_0005\.jpg.*whole are folds \[1\]"):
        load_verification_set(path, photographs)
    assert len(load_verification_set(path, photographs, folds=[1])) == 2


def test_the_published_pairs_with_the_photographs_of_fold_1(shared: Path) -> None:
    text, raw = shared / "data/lfw_pairs.txt", shared / "data/lfw_raw"
    with pytest.raises(FacekdError, match=r"6894 of 7701 photographs .*whole are folds \[1\]"):
        load_verification_set(text, raw)
    pairs = load_verification_set(text, raw, folds=[1], size=None)
    assert (len(pairs), int(pairs.issame.sum()), pairs.fold_sizes) == (600, 300, [600])
    assert pairs.image(0).shape == (250, 250, 3)


@pytest.mark.parametrize(
    ("header", "lines", "message"),
    [
        ("hello", [], "is no pair in a layout that is read"),
        ("1 1", ["Eve 1 1"], "announces 1 folds of 1"),
        ("1 1", ["Eve 1 1", "Eve 1 1"], "line 3: 'Eve 1 1' is not 'name1 n1 name2 n2'"),
        ("1 1", ["Eve one 1", "Eve 1 Ann_B 1"], "line 2"),
    ],
)
def test_a_bad_pairs_txt_names_its_line(tmp_path: Path, header: str, lines: list[str], message: str) -> None:
    photographs = lfw_folder(tmp_path / "raw")
    with pytest.raises(FacekdError, match=message):
        load_verification_set(write_pairs(tmp_path, header, lines), photographs)


def test_usage_errors(tmp_path: Path) -> None:
    path = write_pairs(tmp_path, "1 1", ["Eve 1 1", "Eve 1 Ann_B 1"])
    with pytest.raises(UsageError, match="no verification set at"):
        load_verification_set(tmp_path / "nowhere.bin")
    with pytest.raises(UsageError, match="give the folder of their images"):
        load_verification_set(path)
    with pytest.raises(UsageError, match="no folder of images at"):
        load_verification_set(path, tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"folds \[3\] are not in"):
        load_verification_set(path, lfw_folder(tmp_path / "raw"), folds=[3])


def test_synthetic_pairs_are_repeatable_and_share_nobody_with_training() -> None:
    from facekd.data.synthetic import PAIRS_FIRST_IDENTITY, SyntheticConfig

    pairs = load_verification_set("synthetic:identities=6,pairs=40,seed=3")
    again = load_verification_set("synthetic:identities=6,pairs=40,seed=3")
    other = load_verification_set("synthetic:identities=6,pairs=40,seed=4")
    assert pairs.fingerprint() == again.fingerprint() != other.fingerprint()
    assert pairs.issame.reshape(10, 2, 2).tolist() == [[[True] * 2, [False] * 2]] * 10
    field = SyntheticConfig.model_fields["identities"]
    assert any(getattr(limit, "le", None) == PAIRS_FIRST_IDENTITY for limit in field.metadata)
    with pytest.raises(UsageError, match="at least 2"):
        load_verification_set("synthetic:identities=6,pairs=1")


def png_of(value: int) -> bytes:
    return bytes(cv2.imencode(".png", np.full((112, 112, 3), value, np.uint8))[1])


def test_rfws_lists_are_lfws_lines_alone(tmp_path: Path) -> None:
    """Three fields are one person, four are two; every line is a pair, "m.01 2 1" too, whose last field is a truth."""
    for person in ("m.01", "m.02"):
        (tmp_path / person).mkdir()
        for number in (1, 2):
            (tmp_path / person / f"{person}_{number:04d}.png").write_bytes(png_of(number))
    lines = ["m.01\t2\t1", "m.02\t1\t2", "m.01\t1\tm.02\t2", "m.01\t2\tm.02\t2"] * 2
    (tmp_path / "African_pairs.txt").write_text("\n".join(lines))
    found = load_verification_set(tmp_path / "African_pairs.txt", tmp_path)
    assert found.issame.tolist() == [True, True, False, False] * 2
    assert found.fold_sizes == [4, 4]
    assert [int(found.image(i)[0, 0, 0]) for i in range(8)] == [2, 1, 1, 2, 1, 2, 2, 2]


def make_cfp(root: Path) -> Path:
    """Two folds of 2 + 2 pairs, of photographs whose grey value says which they are."""
    for name, folder, base in (("F", "frontal", 10), ("P", "profile", 100)):
        lines = []
        for number in range(1, 5):
            file = root / f"Data/Images/{number:03d}/{folder}/01.png"
            file.parent.mkdir(parents=True)
            file.write_bytes(png_of(base + number))
            lines.append(f"{number} ../Data/Images/{number:03d}/{folder}/01.png")
        (root / "Protocol").mkdir(exist_ok=True)
        (root / f"Protocol/Pair_list_{name}.txt").write_text("\n".join(lines) + "\n")
    for split in ("FP", "FF"):
        for fold in ("01", "02"):
            folder = root / "Protocol/Split" / split / fold
            folder.mkdir(parents=True)
            (folder / "same.txt").write_text("1,1\n2,2\n")
            (folder / "diff.txt").write_text("1,3\n4,2\n")
    return root / "Protocol/Split"


def test_cfp_as_it_is_published(tmp_path: Path) -> None:
    split = make_cfp(tmp_path)
    for name, second in (("FP", 100), ("FF", 10)):
        found = load_verification_set(split / name)
        assert found.name == f"cfp-{name.lower()}"
        assert found.issame.tolist() == [True, True, False, False] * 2
        assert found.fold_sizes == [4, 4]
        shown = [int(found.image(i)[0, 0, 0]) for i in range(8)]
        assert shown == [11, second + 1, 12, second + 2, 11, second + 3, 14, second + 2]
    (tmp_path / "Data/Images/003/profile/01.png").unlink()
    with pytest.raises(FacekdError, match=r"1 photographs of .*FP are missing, the first .*003.profile.01\.png"):
        load_verification_set(split / "FP")
    (split / "FP/01/same.txt").write_text("1,9\n")
    with pytest.raises(FacekdError, match=r"same\.txt, line 1: '1,9' is not two numbers of the lists in"):
        load_verification_set(split / "FP")


def write_agedb(path: Path, folds: list[list[tuple[str, str, int]]]) -> None:
    """As MATLAB saves it: a cell a fold, in it a struct of a cell array of structs, and of truths."""
    from scipy import io

    splits = np.empty((len(folds), 1), dtype=object)
    for number, fold in enumerate(folds):
        pairs = np.empty((2, len(fold)), dtype=object)
        for at, (first, second, _) in enumerate(fold):
            pairs[0, at], pairs[1, at] = {"name": first, "age": 30}, {"name": second, "age": 60}
        splits[number, 0] = {"pairs": pairs, "labels": np.array([[truth for *_, truth in fold]])}
    io.savemat(path, {"splits": splits})


def test_agedb_as_it_is_published(tmp_path: Path) -> None:
    names = ["0_MariaCallas_35_f", "1_MariaCallas_40_f", "9_VladimirPutin_60_m"]
    for value, name in enumerate(names, 1):
        (tmp_path / f"{name}.png").write_bytes(png_of(value))
    same, other = (names[0], names[1], 1), (names[1], names[2], -1)
    write_agedb(tmp_path / "pairs.mat", [[same, other], [other, same]])
    found = load_verification_set(tmp_path / "pairs.mat", tmp_path)
    assert found.issame.tolist() == [True, False, False, True] and found.fold_sizes == [2, 2]
    assert [int(found.image(i)[0, 0, 0]) for i in range(8)] == [1, 2, 2, 3, 2, 3, 1, 2]
    assert load_verification_set(tmp_path / "pairs.mat", tmp_path, folds=[2]).issame.tolist() == [False, True]
    (tmp_path / f"{names[2]}.png").unlink()
    with pytest.raises(FacekdError, match=r"1 of 3 photographs of pairs\.mat are not in .*, the first 9_VladimirPutin"):
        load_verification_set(tmp_path / "pairs.mat", tmp_path)


def test_matlab_files_that_are_no_pairs(tmp_path: Path) -> None:
    from scipy import io

    whole = tmp_path / "whole.mat"
    write_agedb(whole, [[("a", "b", 1), ("c", "d", -1)]] * 3)
    (tmp_path / "cut.mat").write_bytes(whole.read_bytes()[:200])
    io.savemat(tmp_path / "other.mat", {"gallery": [1, 2], "probes": 3})
    io.savemat(tmp_path / "flat.mat", {"splits": [1, 2]})
    write_agedb(tmp_path / "three.mat", [[("a", "b", 3), ("c", "d", 1)]])
    cases = {
        "cut": "cannot be read as a MATLAB file",
        "other": "holds gallery, probes, and no splits: AgeDB's pairs are needed",
        "flat": "fold 1: not AgeDB's layout (no struct)",
        "three": "fold 1: not AgeDB's layout (a truth of 3)",
    }
    for name, message in cases.items():
        with pytest.raises(FacekdError) as refused:
            load_verification_set(tmp_path / f"{name}.mat", tmp_path)
        assert message in str(refused.value) and "\n" not in str(refused.value), name
