"""A teacher that is run once: what is stored is what it gives, for exactly the view that the student sees."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from facekd.common.errors import FacekdError, UsageError
from facekd.data.augmentation import augment
from facekd.data.source import UnreadableImage
from facekd.distillation import fill_cache as filling
from facekd.distillation.build import build_task
from facekd.distillation.fill_cache import Filled, fill_cache, frozen_teacher
from facekd.distillation.losses.base import LOSSES
from facekd.distillation.teacher_cache import TeacherCache, shard_file
from facekd.distillation.teachers.cached import CachedTeacher
from facekd.recipe import Recipe
from facekd.training.reproducibility import seed_everything
from facekd.training.stream import BatchStream

DATA = {
    "source": "synthetic:identities=6,images=2",
    "workers": 0,
    "images_per_identity": 2,
    "augmentation": {"flip": 0.5, "colour": {"probability": 0.7}, "crop": {"probability": 0.3}},
}
TRAINING = {"batch_size": 6, "max_steps": 4, "precision": "fp32", "channels_last": False, "device": "cpu"}


def make_recipe(tiny: Any, teacher: Path, *terms: Any, cache: Path | None = None, **data: Any) -> Recipe:
    given = {"bundle": str(teacher), **({"cache": str(cache)} if cache else {})}
    return tiny.recipe(None, *terms, data={**DATA, **data}, training=TRAINING, teacher=given)


@pytest.fixture(scope="module")
def stored(tiny: Any, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Filled:
    """Three views of the twelve images, with tokens, in files of 10 rows: views and files end at different rows."""
    out = tmp_path_factory.mktemp("stored") / "cache"
    recipe = make_recipe(tiny, teacher, "urfm")
    return fill_cache(recipe, tiny.source, out, views=3, shard_rows=10, batch_size=4)


def test_each_row_is_the_teachers_output_of_its_view(tiny: Any, teacher: Path, stored: Filled) -> None:
    recipe = make_recipe(tiny, teacher, "urfm")
    network = frozen_teacher(recipe).eval()
    assert (stored.computed, stored.before, stored.cache.card.shards) == (36, 0, 4)
    for view, i in [(0, 0), (0, 11), (1, 3), (2, 11)]:
        image = augment(tiny.source.read(i), recipe.data.augmentation, np.random.default_rng([0, view, i]))
        x = network.input.normalise(torch.from_numpy(image.copy()).permute(2, 0, 1)[None])
        with torch.no_grad():
            expected = network(x)
        rows, there = stored.cache.read(view, [i])
        assert there.tolist() == [True]
        np.testing.assert_allclose(rows["embedding"], expected.embedding.numpy(), rtol=2e-3, atol=2e-3)
        np.testing.assert_allclose(rows["tokens"], expected.tokens.numpy(), rtol=2e-3, atol=2e-3)


def test_an_epoch_shows_its_view(tiny: Any, teacher: Path, stored: Filled) -> None:
    """Epoch n brings view n modulo 3, whatever the seed of the run: image, row and label belong together."""
    recipe = make_recipe(tiny, teacher, "urfm", cache=stored.cache.folder)
    recipe.seed = 7
    stream = BatchStream(recipe, tiny.source)
    for epoch in (0, 1, 4):
        batch = next(stream.steps(epoch, 0)).batches[0]
        for place, key in enumerate(batch["keys"]):
            i = next(i for i in range(len(tiny.source)) if tiny.source.key(i) == key)
            rng = np.random.default_rng([0, epoch % 3, i])
            image = augment(tiny.source.read(i), recipe.data.augmentation, rng)
            assert np.array_equal(batch["images"][place].permute(1, 2, 0).numpy(), image)
            rows, _ = stored.cache.read(epoch % 3, [i])
            assert np.array_equal(batch["stored"]["embedding"][place].numpy(), rows["embedding"][0])


@pytest.mark.parametrize("name", LOSSES.names())
def test_every_loss_is_the_live_teachers(tiny: Any, teacher: Path, stored: Filled, name: str) -> None:
    """All parts of all losses, within what float16 leaves of tokens and embeddings."""
    parts = []
    batch = BatchStream(make_recipe(tiny, teacher, name, cache=stored.cache.folder), tiny.source).first_batch()
    for cache in (None, stored.cache.folder):
        recipe = make_recipe(tiny, teacher, name, cache=cache)
        seed_everything(0)
        task = build_task(recipe, tiny.source).train()
        given = [batch["images"], batch["labels"], *([batch["stored"]] if cache else [])]
        for _ in range(2):  # the second sees what the first left in moving averages
            output = task(*given)
        parts.append({part: float(value) for part, value in output.parts.items()})
        assert isinstance(task.teacher, CachedTeacher) == (cache is not None)
    live, recalled = parts
    assert live.keys() == recalled.keys()
    for part, value in live.items():
        assert recalled[part] == pytest.approx(value, rel=4e-3, abs=2e-3), part


def test_the_network_does_not_run(tiny: Any, teacher: Path, stored: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = make_recipe(tiny, teacher, "urfm", "embedding", cache=stored.cache.folder)
    task = build_task(recipe, tiny.source).train()
    batch = BatchStream(recipe, tiny.source).first_batch()
    assert isinstance(task.teacher, CachedTeacher)
    monkeypatch.setattr(type(task.teacher.network), "forward", lambda *_: pytest.fail("the teacher ran"))
    task(batch["images"], batch["labels"], batch["stored"]).loss.backward()
    assert not any("network" in key for key in task.trainable_state_dict())


def test_int8_tokens_are_within_their_step(tiny: Any, teacher: Path, stored: Filled, tmp_path: Path) -> None:
    recipe = make_recipe(tiny, teacher, "urfm")
    filled = fill_cache(recipe, tiny.source, tmp_path / "c", views=3, tokens="int8", batch_size=4)
    network = CachedTeacher.of(frozen_teacher(recipe), filled.cache)
    rows, _ = filled.cache.read(1, range(12))
    exact, _ = stored.cache.read(1, range(12))
    tokens = network.recall({name: torch.from_numpy(values) for name, values in rows.items()}).tokens
    assert tokens is not None
    steps = np.abs(exact["tokens"].astype(np.float32)).max(axis=2, keepdims=True) / 127
    assert (np.abs(tokens.numpy() - exact["tokens"].astype(np.float32)) <= 0.52 * steps + 2e-3).all()
    np.testing.assert_allclose(rows["embedding"], exact["embedding"], rtol=2e-3, atol=2e-3)  # in other batches
    assert filled.cache.card.bytes < 0.6 * stored.cache.card.bytes


def test_an_interrupted_filling_goes_on(
    tiny: Any, teacher: Path, stored: Filled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped within the second file; what is there is not computed again, and the result has the same bytes."""
    recipe, out = make_recipe(tiny, teacher, "urfm"), tmp_path / "cache"
    outputs, calls = filling._outputs, []

    def stops(*given: Any) -> Any:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return outputs(*given)

    out.mkdir()
    (out / ".cache.json.0123abcd.partial").touch()  # as a kill leaves it in the first moment of all
    monkeypatch.setattr(filling, "_outputs", stops)
    with pytest.raises(KeyboardInterrupt):
        fill_cache(recipe, tiny.source, out, views=3, shard_rows=10, batch_size=4)
    monkeypatch.setattr(filling, "_outputs", outputs)
    assert TeacherCache(out).missing() == [1, 2, 3]
    with pytest.raises(UsageError, match=r"not finished: 1 of 4 parts are there"):
        build_task(make_recipe(tiny, teacher, "urfm", cache=out), tiny.source)
    again = fill_cache(recipe, tiny.source, out, views=3, shard_rows=10, batch_size=4)
    assert (again.computed, again.before) == (26, 10)
    for path in sorted(stored.cache.folder.glob("*.npy")):
        assert (out / path.name).read_bytes() == path.read_bytes()
    assert fill_cache(recipe, tiny.source, out, views=3, shard_rows=10).computed == 0


def test_machines_share_the_work(tiny: Any, teacher: Path, stored: Filled, tmp_path: Path) -> None:
    recipe = make_recipe(tiny, teacher, "urfm")
    options: dict[str, Any] = {"views": 3, "shard_rows": 10, "batch_size": 4}
    for number in (2, 1, 3):
        filled = fill_cache(recipe, tiny.source, tmp_path / "c", part=(number, 3), **options)
        assert filled.computed == {1: 16, 2: 10, 3: 10}[number]
    assert filled.cache.missing() == []
    for path in sorted(stored.cache.folder.glob("*.npy")):
        assert (tmp_path / "c" / path.name).read_bytes() == path.read_bytes()
    with pytest.raises(UsageError, match=r"part 4/3: give K/N with K from 1 to N"):
        fill_cache(recipe, tiny.source, tmp_path / "c", part=(4, 3), **options)


def test_a_broken_image_has_no_row_and_is_named(
    tiny: Any, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, out = make_recipe(tiny, teacher, "embedding"), tmp_path / "cache"
    read = type(tiny.source).read

    def breaks(self: Any, i: int) -> np.ndarray:
        if i == 5:
            raise UnreadableImage(self.key(i), "cut off")
        return read(self, i)

    monkeypatch.setattr(type(tiny.source), "read", breaks)
    filled = fill_cache(recipe, tiny.source, out, batch_size=4)
    assert filled.broken == [(tiny.source.key(5), "cut off")]
    monkeypatch.undo()
    stream = BatchStream(make_recipe(tiny, teacher, "embedding", cache=out), tiny.source)
    steps = stream.steps(0, 0)
    first, second = next(steps), next(steps)
    assert [key for key, _ in first.broken + second.broken] == [tiny.source.key(5)]
    assert first.images + second.images == 11
    assert tiny.source.key(5) not in first.keys + second.keys


def test_what_it_is_not_of_is_refused(
    tiny: Any, teacher: Path, cnn_teacher: Path, stored: Filled, tmp_path: Path
) -> None:
    place = stored.cache.folder
    other = tiny.save_teacher(tmp_path / "other", with_head=False)
    more = "synthetic:identities=7,images=2"
    from facekd.data.opening import open_source

    def refused(recipe: Recipe, message: str, source: Any = tiny.source) -> None:
        with pytest.raises(UsageError, match=message):
            build_task(recipe, source)

    refused(make_recipe(tiny, cnn_teacher, "urfm", cache=place), "is of another teacher: its sha256 is")
    refused(
        make_recipe(tiny, teacher, "urfm", cache=place, augmentation={"flip": 0.1}),
        r"of another augmentation: data.augmentation.flip is 0.1 in the recipe and 0.5 in the cache",
    )
    refused(make_recipe(tiny, teacher, "urfm", cache=place, source=more), r"is of .* as it is now", open_source(more))
    refused(make_recipe(tiny, teacher, "urfm", cache=tmp_path), r"no teacher's outputs at .*facekd teacher cache")
    with pytest.raises(ValueError, match="apt changes the teacher while it teaches"):
        make_recipe(tiny, teacher, "urfm", "apt", cache=place)
    with pytest.raises(UsageError, match="apt changes the teacher while it teaches, so its outputs cannot be stored"):
        fill_cache(make_recipe(tiny, teacher, "urfm", "apt"), tiny.source, tmp_path / "new")
    with pytest.raises(UsageError, match="holds outputs of another kind: its views is 3, asked for is 2"):
        fill_cache(make_recipe(tiny, teacher, "urfm"), tiny.source, place, views=2, shard_rows=10)
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(UsageError, match="holds something else than a teacher's outputs"):
        fill_cache(make_recipe(tiny, teacher, "urfm"), tiny.source, tmp_path)
    assert other.exists()
    assert not (tmp_path / "new").exists()


def test_faces_that_cannot_be_read_at_all_are_one_line(
    tiny: Any, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(self: Any, i: int) -> np.ndarray:
        raise UnreadableImage(self.key(i), "cut off")

    monkeypatch.setattr(type(tiny.source), "read", breaks)
    with pytest.raises(FacekdError, match=r"not one of 12 images of .* could be read \(.*: cut off\)"):
        fill_cache(make_recipe(tiny, teacher, "embedding"), tiny.source, tmp_path / "c", batch_size=4)
    assert TeacherCache(tmp_path / "c").missing()


def test_a_damaged_file_is_one_line(tiny: Any, teacher: Path, tmp_path: Path) -> None:
    recipe = make_recipe(tiny, teacher, "embedding")
    fill_cache(recipe, tiny.source, tmp_path / "c", batch_size=4)
    shard = shard_file(tmp_path / "c", "embedding", 0)
    whole = shard.read_bytes()
    for content, message in ((whole[:-7], "cannot be read"), (b"no array", "cannot be read")):
        shard.write_bytes(content)
        with pytest.raises(FacekdError, match=f"{message}.*delete it, and run `facekd teacher cache` again"):
            TeacherCache(tmp_path / "c").read(0, [0])
    np.save(shard, np.zeros((1, 4), np.float16))
    with pytest.raises(FacekdError, match=r"holds float16 \[1, 4\], not float16 \[1, 32\]"):
        TeacherCache(tmp_path / "c").read(0, [0])
    card = json.loads((tmp_path / "c" / "cache.json").read_text())
    (tmp_path / "c" / "cache.json").write_text(json.dumps({**card, "schema_version": 2}))
    with pytest.raises(FacekdError, match="has schema version 2"):
        TeacherCache(tmp_path / "c")


def test_what_float16_cannot_hold_is_refused(
    tiny: Any, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filling, "LARGEST", 0.01)
    with pytest.raises(FacekdError, match=r"the teacher's embedding reach .* beyond the 0.01 of float16"):
        fill_cache(make_recipe(tiny, teacher, "embedding"), tiny.source, tmp_path / "c", batch_size=4)
    assert len(TeacherCache(tmp_path / "c").missing()) == 12
