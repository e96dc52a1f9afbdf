"""Packed collections: shards hold what the folder holds, streams draw the same batches again, memory has a bound, bad shards are named."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from torch import Tensor

from helpers import refused, tiny_preset, write_toy_collection
from tars3d import cli, presets
from tars3d.data.bank import PictureBank, load_bank
from tars3d.data.checking.check import check_collection
from tars3d.data.collection import load_collection
from tars3d.data.frames import Framing
from tars3d.data.hull import hull_samples
from tars3d.data.pack import pack_collection
from tars3d.data.ray_batches import RayBatch
from tars3d.data.shards import open_pack, open_packs
from tars3d.data.stream import PictureStream, sampler_of
from tars3d.errors import UserError
from tars3d.seeding import derived_seed
from tars3d.training import trainer
from tars3d.training.open_data import open_data
from tars3d.training.run_folder import RunFolder

HOW = Framing(32, "bbox", 1.2)
SETTINGS = {"batch": 4, "views": 2, "rays": 16, "boundary_rays": 0.5, "flip": True, "seed": 7}
OBJECTS, VIEWS = 9, 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    splits = {"train": [f"toy{i}" for i in range(OBJECTS)], "val": ["toy9"], "test": ["toy10"]}
    return write_toy_collection(tmp_path_factory.mktemp("toys"), objects=11, views=VIEWS, splits=splits)


@pytest.fixture(scope="module")
def packed(folder, tmp_path_factory) -> Path:
    """Three shards of three objects each, with hulls, and one of the validation object."""
    out = tmp_path_factory.mktemp("shards") / "toys"
    pack_collection(folder, out, HOW, shard_pictures=VIEWS * 3, samples=64)
    return out


@pytest.fixture
def copy(packed, tmp_path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "copy"))


def stream_of(source: Path | str, windows: int = 3) -> PictureStream:
    stream = PictureStream(open_packs([source]), HOW)
    stream.windows = windows
    return stream


def whole(stream: PictureStream):
    wish = sampler_of(stream, **SETTINGS, hull_points=8)._wish(tuple(range(len(stream.shards))))
    return stream.load(wish)


def tensors_of(batch: RayBatch) -> dict[str, Tensor]:
    named = {name: value for name, value in vars(batch).items() if isinstance(value, Tensor) and name != "index"}
    hull = {} if batch.hull is None else vars(batch.hull)
    return named | {"k": batch.cameras.intrinsics, "rt": batch.cameras.extrinsics} | hull


def same(one: RayBatch, other: RayBatch) -> bool:
    others = tensors_of(other)
    return all(torch.equal(value, others[name]) for name, value in tensors_of(one).items())


def by_name(bank: PictureBank) -> dict[str, int]:
    return {name: row for row, name in enumerate(bank.names)}


def test_shards_hold_what_the_folder_holds(folder, packed):
    expected = load_bank(load_collection(folder).split("train"), size=32, framing="bbox", padding=1.2)
    found = whole(stream_of(packed)).bank
    assert sorted(found.names) == sorted(expected.names)
    rows, wanted = zip(*[(row, by_name(expected)[name]) for name, row in by_name(found).items()], strict=True)
    rows, wanted = torch.tensor(rows), torch.tensor(wanted)
    for name in ("rgb", "mask", "distance"):
        assert torch.equal(getattr(found, name)[rows], getattr(expected, name)[wanted]), name
    for name in ("intrinsics", "extrinsics", "perspective"):
        assert torch.equal(getattr(found.cameras, name)[rows], getattr(expected.cameras, name)[wanted]), name
    for row, want in zip(rows, wanted, strict=True):
        assert found.instances[found.instance[row]] == expected.instances[expected.instance[want]]


def test_masks_in_files_and_orthographic_cameras_are_packed_too(folder, tmp_path):
    from PIL import Image

    root = write_toy_collection(tmp_path / "toys", objects=2, views=1, model="orthographic")
    index = json.loads((root / "cameras.json").read_text())
    (root / "masks").mkdir()
    for name, entry in index["images"].items():
        picture = Image.open(root / entry["file"])
        picture.getchannel("A").save(root / "masks" / f"{name}.png")
        picture.convert("RGB").save(root / f"images/{name}.jpg", quality=95)
        (root / entry["file"]).unlink()
        entry |= {"file": f"images/{name}.jpg", "mask": f"masks/{name}.png"}
    (root / "cameras.json").write_text(json.dumps(index))
    pack_collection(root, tmp_path / "shards", HOW, samples=0)
    expected = load_bank(load_collection(root).split("train"), size=32, framing="bbox", padding=1.2)
    shard = open_pack(tmp_path / "shards").read(open_pack(tmp_path / "shards").splits["train"][0])
    assert {picture.model for picture in shard} == {"orthographic"}
    found = next(stream_of(tmp_path / "shards", 1).image_chunks(8))
    order = [by_name(expected)[picture.name] for picture in shard]
    assert torch.equal(found, expected.images(torch.tensor(order)))


def test_a_mask_file_without_a_suffix_stays_a_mask(tmp_path):
    root = write_toy_collection(tmp_path / "toys", objects=1, views=1)
    index = json.loads((root / "cameras.json").read_text())
    (entry,) = index["images"].values()
    mask = root / "mask"
    shutil.copy(root / entry["file"], mask)
    entry["mask"] = "mask"
    (root / "cameras.json").write_text(json.dumps(index))
    pack_collection(root, tmp_path / "shards", HOW, samples=0)
    pack = open_pack(tmp_path / "shards")
    (found,) = pack.read(pack.splits["train"][0])
    assert found.picture.data == (root / entry["file"]).read_bytes()
    assert found.mask is not None
    assert found.mask.data == mask.read_bytes()


def test_hulls_are_those_of_the_shards_pictures(packed):
    window = whole(stream_of(packed))
    assert window.hulls is not None
    assert window.hulls.points.shape == (OBJECTS, 64, 3)
    first = open_pack(packed).splits["train"][0]
    own = stream_of(packed).load(sampler_of(stream_of(packed), **SETTINGS, hull_points=8)._wish((0,)))
    expected = hull_samples(own.bank, samples=64, seed=derived_seed(0, 0))
    assert own.bank.objects == first.objects
    for name, value in vars(expected).items():
        assert torch.equal(getattr(own.hulls, name), value), name


def test_validation_objects_bring_their_ground_truth(folder, packed):
    pack = open_pack(packed)
    pictures = pack.read(pack.splits["val"][0])
    assert [picture.instance for picture in pictures] == ["toy9"] * VIEWS
    assert pictures[0].truth is not None
    np.testing.assert_array_equal(pictures[0].truth["points"], load_collection(folder).ground_truth("toy9")[0])


def test_packing_again_gives_the_same_bytes_and_another_seed_another_order(folder, packed, tmp_path):
    pack_collection(folder, tmp_path / "again", HOW, shard_pictures=VIEWS * 3, samples=64)
    for file in packed.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes(), file.name
    pack_collection(folder, tmp_path / "other", HOW, shard_pictures=VIEWS * 3, samples=0, seed=1)
    orders = [
        [p.instance for p in pack.read(pack.splits["train"][0])]
        for pack in map(open_pack, (packed, tmp_path / "other"))
    ]
    assert orders[0] != orders[1]


def test_webdataset_reads_the_shards(packed):
    webdataset = pytest.importorskip("webdataset", reason="the webdataset package is not installed")
    samples = list(webdataset.WebDataset(str(packed / "train-00000.tar"), shardshuffle=False).decode("pil"))
    pack = open_pack(packed)
    expected = pack.read(pack.splits["train"][0])
    assert [sample["json"]["name"] for sample in samples] == [picture.name for picture in expected]
    assert "hull.npz" in samples[0]
    assert samples[0]["png"].size == (32, 32)


def test_every_picture_once_an_epoch_in_another_order(packed):
    stream = stream_of(packed)
    sampler = sampler_of(stream, **{**SETTINGS, "batch": 3, "flip": False})
    names = np.array(whole(stream).bank.names)
    images = whole(stream).bank.images(torch.arange(len(stream)))
    epochs = []
    for epoch in range(2):
        drawn = [sampler.draw(step).images for step in range(9 * epoch, 9 * epoch + 9)]
        distance = torch.cdist(torch.cat(drawn).flatten(1), images.flatten(1))
        epochs.append(names[distance.argmin(dim=1)].tolist())
    assert len({sampler.place(step)[:2] for step in range(18)}) == 6
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(names.tolist())
    assert epochs[0] != epochs[1]


def test_a_batch_is_a_function_of_seed_and_step(packed):
    first = sampler_of(stream_of(packed), **SETTINGS, hull_points=8)
    batches = [first.draw(step) for step in range(14)]  # over two epochs
    for step in (8, 3, 13, 0):  # a fresh process that begins in the middle of an epoch, or before
        assert same(sampler_of(stream_of(packed), **SETTINGS, hull_points=8).draw(step), batches[step])
    assert not same(sampler_of(stream_of(packed), **{**SETTINGS, "seed": 8}, hull_points=8).draw(3), batches[3])


def test_windows_of_an_epoch_are_drawn_from_with_seeds_of_their_own(packed):
    sampler = sampler_of(stream_of(packed), **{**SETTINGS, "batch": 9})
    seeds = set()
    for step in range(6):  # two epochs of three windows
        sampler.draw(step)
        seeds.add(sampler._drawing[1].seed)
    assert len(seeds) == 6


def test_a_crop_wavers_alike_whatever_window_its_picture_is_in(packed):
    stream = PictureStream(open_packs([packed]), replace(HOW, crop_jitter=0.2, seed=5))
    wish = sampler_of(stream, **SETTINGS)._wish
    together, apart = (stream.load(wish(shards)).bank for shards in ((0, 1), (1,)))
    rows = [by_name(together)[name] for name in apart.names]
    assert torch.equal(together.rgb[rows], apart.rgb)
    plain = stream_of(packed).load(wish((1,))).bank
    assert not torch.equal(plain.rgb, apart.rgb)


class Killed(Exception):
    pass


def test_training_killed_in_mid_epoch_goes_on_with_the_same_samples(packed, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "SAVE_EVERY_SECONDS", -1.0)
    device = torch.device("cpu")

    def run(root: Path, kill: int | None = None) -> dict[str, Tensor]:
        def watch(method, progress):
            if progress.total_steps == kill:
                raise Killed

        method = trainer.train(
            tiny_preset(), stream_of(packed), RunFolder(root), device=device, watch=watch, watch_every=1
        )
        return {name: value.clone() for name, value in method.state_dict().items()}

    expected = run(tmp_path / "undisturbed")
    for kill in (4, 6, 10):
        with pytest.raises(Killed):
            run(tmp_path / "killed", kill)
    found = run(tmp_path / "killed")
    assert not [name for name, value in expected.items() if not torch.equal(found[name], value)]


def test_two_windows_at_most_are_alive(packed):
    """However long the stream: the windows that were drawn from are let go."""
    import gc
    import weakref

    stream = stream_of(packed)
    sampler = sampler_of(stream, **SETTINGS)
    alive, load = [], stream.load

    def counted(wish):
        gc.collect()
        most.append(sum(window() is not None for window in alive))
        window = load(wish)
        alive.append(weakref.ref(window))
        return window

    most: list[int] = []
    stream.load = counted
    for step in range(40):
        sampler.draw(step)
    assert len(alive) > 12
    assert max(most) <= 1, "while a window is read, more than the one in use is in memory"


def test_a_window_is_as_large_as_it_may_be(packed):
    pictures = OBJECTS * VIEWS
    packs = open_packs([packed])
    shard = 6 * 32**2 * pictures // 3 + 12 * 64 * OBJECTS // 3
    assert PictureStream(packs, HOW, window_bytes=1).windows == 3
    assert PictureStream(packs, HOW, window_bytes=2 * shard).windows == 2
    assert PictureStream(packs, HOW, window_bytes=3 * shard).windows == 1


@pytest.fixture
def in_fsspec_memory(packed):
    files = fsspec.filesystem("memory")
    files.put(str(packed), "/bucket/toys", recursive=True)
    yield "memory://bucket/toys"
    files.rm("/bucket", recursive=True)


def test_any_fsspec_url_streams(packed, in_fsspec_memory):
    draws = [sampler_of(stream_of(source), **SETTINGS).draw(5) for source in (packed, in_fsspec_memory)]
    assert same(*draws)


def test_a_place_that_lets_nobody_list_its_files_is_read_all_the_same(in_fsspec_memory, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError("AccessDenied")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "ls", refuse)
    assert stream_of(in_fsspec_memory).objects == OBJECTS


def test_the_commands_pack_and_train(folder, in_fsspec_memory, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(presets.PRESETS, "tiny", tiny_preset)
    shards = tmp_path / "shards"
    cli.main(["data", "pack", str(folder), "--shards", str(shards), "--hull-samples", "64"])
    assert f"{OBJECTS * VIEWS} pictures for train, {VIEWS} pictures for val, in 2 shards" in capsys.readouterr().out
    options = ["--preset", "tiny", "--threads", "1", "--device", "cpu"]
    cli.main(["train", str(shards), "--out", str(tmp_path / "run"), *options, "--minutes", "0"])
    cli.main(["train", "--out", str(tmp_path / "run"), *options, "--resume"])
    history = RunFolder(tmp_path / "run").read_history()
    assert any("chamfer_x10" in row for row in history), "held-out objects are not measured"
    assert (tmp_path / "run" / "report.html").exists()
    cli.main(["train", in_fsspec_memory, "--out", str(tmp_path / "url"), *options])
    assert "data changed" in refused(capsys, "train", in_fsspec_memory, "--out", tmp_path / "run", *options, "--resume")


def test_a_pack_is_not_taken_for_a_folder(packed, tmp_path, capsys):
    out = tmp_path / "run"
    message = refused(capsys, "train", packed, "--out", out, "--preset", "compact-single-view", "--threads", "1")
    assert f"{packed}: is packed; --preset compact-single-view completes hulls" in message
    for command in (["evaluate", packed], ["bench", "table1", "--data", packed, "--out", out]):
        assert f"{packed}: is packed; give the folder it was packed from" in refused(capsys, *command)
    assert "is packed; give the folder" in check_collection(packed, progress=False).problems[0]


def test_objects_of_one_name_in_two_packs_have_their_own_ground_truth(folder, tmp_path):
    for name, scale in (("a", 1.0), ("b", 0.5)):
        root = Path(shutil.copytree(folder, tmp_path / name))
        file = root / "ground_truth" / "toy9.npz"
        truth = dict(np.load(file))
        np.savez(file, **{**truth, "points": scale * truth["points"]})
        pack_collection(root, tmp_path / f"packed-{name}", HOW, samples=64)
    sources = [tmp_path / "packed-a", tmp_path / "packed-b"]
    preset = tiny_preset()
    training = replace(preset.training, stages=tuple(replace(stage, hull_points=0) for stage in preset.training.stages))
    data = open_data(sources, replace(preset, training=training), torch.device("cpu"))
    assert data.watched.objects == 2
    first, second = (data.truth(number) for number in range(2))
    assert first is not None
    assert second is not None
    np.testing.assert_allclose(second[0], 0.5 * first[0], atol=1e-6)


def refusal(source: Path | str) -> str:
    with pytest.raises(UserError) as caught:
        open_pack(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_shard_that_is_cut_off_is_refused_before_training(copy):
    shard = copy / "train-00001.tar"
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    message = refusal(copy)
    assert message.startswith(f"{shard}: is cut off after")
    assert "copy it again" in message


def test_a_shard_that_is_cut_off_or_lost_while_training_is_named(copy):
    stream = stream_of(copy)
    sampler = sampler_of(stream, **SETTINGS)
    shard = copy / "train-00002.tar"
    contents = shard.read_bytes()
    shard.write_bytes(contents[:5000])
    with pytest.raises(UserError, match=r"train-00002.tar: is cut off after 5,000 of .* copy it again"):
        [sampler.draw(step) for step in range(10)]
    shard.unlink()
    with pytest.raises(UserError, match=r"train-00002.tar: is missing, shards.json names it"):
        [sampler_of(stream, **SETTINGS).draw(step) for step in range(10)]


def test_a_shard_that_is_missing_or_of_another_packing_is_refused(copy, folder, tmp_path):
    (copy / "train-00002.tar").rename(tmp_path / "away.tar")
    assert refusal(copy).startswith(f"{copy}/train-00002.tar: is missing, shards.json names it")
    shutil.copy(copy / "train-00001.tar", copy / "train-00002.tar")
    pack = open_pack(copy) if (copy / "train-00001.tar").stat().st_size == pack_size(copy, 2) else None
    if pack is None:  # of other length, it is seen at once
        assert "mixed packings" in refusal(copy) or "cut off" in refusal(copy)
    else:
        with pytest.raises(UserError, match="damaged, or from another packing"):
            pack.read(pack.splits["train"][2])


def pack_size(folder: Path, number: int) -> int:
    return json.loads((folder / "shards.json").read_text())["splits"]["train"][number]["bytes"]


def test_a_flipped_bit_is_found(copy):
    pack = open_pack(copy)
    shard = copy / "train-00000.tar"
    contents = bytearray(shard.read_bytes())
    contents[len(contents) // 2] ^= 1
    shard.write_bytes(contents)
    with pytest.raises(UserError, match=r"train-00000.tar: is damaged"):
        pack.read(pack.splits["train"][0])


def test_indices_that_are_none_are_refused(copy, tmp_path):
    index = copy / "shards.json"
    good = json.loads(index.read_text())
    index.write_text(json.dumps({**good, "splits": {"train": []}}))
    assert "names no shards to train on" in refusal(copy)
    for bad in ('{"format": "tars3d-shards"}', "{", "[]", json.dumps({**good, "splits": {"train": [{"file": 1}]}})):
        index.write_text(bad)
        assert "is no index of shards" in refusal(copy), bad
    index.write_text(json.dumps({**good, "version": 2}))
    assert "has version 2, not 1" in refusal(copy)
    index.unlink()
    assert "shards.json: is missing; give a folder that `tars3d data pack` wrote" in refusal(copy)
    assert "is missing" in refusal("memory://nowhere/at/all")
    assert "nosuch://x: cannot be opened" in refusal("nosuch://x")


def test_train_refuses_mixtures(folder, packed, copy, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(presets.PRESETS, "tiny", tiny_preset)
    options = ["--out", tmp_path / "run", "--preset", "tiny", "--threads", "1", "--device", "cpu"]
    assert "is a folder, but" in refused(capsys, "train", folder, packed, *options)
    change = json.loads((copy / "shards.json").read_text())
    (copy / "shards.json").write_text(json.dumps({**change, "category": "car"}))
    assert "is a collection of 'car'" in refused(capsys, "train", packed, copy, *options)
    (copy / "shards.json").write_text(json.dumps({**change, "hull": None}))
    assert "has other hull samples than" in refused(capsys, "train", packed, copy, *options)
    assert "packed without hull samples, which this preset needs" in refused(capsys, "train", copy, *options)
    (copy / "shards.json").write_text(json.dumps({**change, "hull": {"fields": ["points"], "samples": 64}}))
    assert "of another version of tars3d; pack it again" in refused(capsys, "train", copy, *options)
    (copy / "shards.json").unlink()
    assert "shards.json: is missing" in refused(capsys, "train", copy, *options)


def test_pack_refuses_what_it_should_not_overwrite_and_leaves_nothing_half_written(folder, packed, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    pack = ["data", "pack", folder, "--shards"]
    assert "exists and is no packed collection; choose another --shards" in refused(capsys, *pack, tmp_path / "mine")
    assert "give at least 1" in refused(capsys, *pack, tmp_path / "a", "--shard-pictures", "0")
    assert "is a URL; write to a folder" in refused(capsys, *pack, "s3://bucket/toys")
    for option, value, cure in [
        ("--hull-samples", "-1", "give 0 or more"),
        ("--hull-samples", "65537", "give at most 65536"),
        ("--workers", "0", "give at least 1"),
        ("--seed", "-1", "give 0 or more"),
    ]:
        assert f"{option} {value}: {cure}" in refused(capsys, *pack, tmp_path / "a", option, value)
    assert "no such folder" in refused(capsys, "data", "pack", tmp_path / "none", "--shards", tmp_path / "a")
    damaged = Path(shutil.copytree(folder, tmp_path / "damaged"))
    picture = damaged / "images" / "toy3_1.png"
    picture.write_bytes(picture.read_bytes()[:60])
    for samples in ("0", "16"):
        message = refused(capsys, "data", "pack", damaged, "--shards", tmp_path / "a", "--hull-samples", samples)
        assert str(picture) in message
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "damaged"}
