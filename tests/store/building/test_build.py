import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from trimtab.cli import app
from trimtab.errors import ModelError, StoreError
from trimtab.model.hook_points import HookPoint
from trimtab.model.language_model import LanguageModel
from trimtab.model.sae import SAE
from trimtab.pairs.sample import Sample
from trimtab.store import Store, build, files, open_store, shards
from trimtab.store.building.batches import Tokenised
from trimtab.store.building.capture import capture
from trimtab.store.catalog.catalog import CATALOG
from trimtab.store.checked import CHECKED, checksum
from trimtab.store.files import commit

Pairs = Callable[..., list[Sample]]
Build = Callable[..., Store]


class PowerCut(BaseException):
    """What no code of ours catches."""


def cut_power_at(commit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail between writing a file and moving it into place, the n-th time that this happens."""
    done = 0
    original = files.commit

    def dying(temporary: Path, path: Path) -> None:
        nonlocal done
        if done == commit:
            raise PowerCut
        done += 1
        original(temporary, path)

    monkeypatch.setattr("trimtab.store.files.commit", dying)
    monkeypatch.setattr("trimtab.store.catalog.catalog.commit", dying)


def test_a_build_cut_at_any_commit_resumes_to_the_same_content(
    built: Build, make_pairs: Pairs
) -> None:
    expected = built(make_pairs(4), "expected")
    n_tasks = len(shards.read_markers(expected.path / "shards"))
    assert n_tasks > 1
    commits = 2 + 5 * n_tasks + 2  # header, plan, four tables and a marker each, seal, catalog
    for n in range(commits):
        with pytest.MonkeyPatch.context() as patch:
            cut_power_at(n, patch)
            with pytest.raises(PowerCut):
                built(make_pairs(4), f"cut-{n}")
        resumed = built(make_pairs(4), f"cut-{n}")
        assert resumed.content_hash == expected.content_hash
        assert not list(resumed.path.rglob("*.tmp*"))
    assert resumed.verify() == []


def test_adding_samples_runs_only_the_new_ones(
    built: Build, make_pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    built(make_pairs(4))
    ran = []

    def counting(model: LanguageModel, batch: list[Tokenised], encoders: Any) -> object:
        ran.extend([sample.index for sample in batch])
        return capture(model, batch, encoders)

    monkeypatch.setattr("trimtab.store.building.worker.capture", counting)
    store = built(make_pairs(7))
    assert sorted(ran) == [4, 5, 6]
    assert store.matrix("refusal").sample_ids == [f"pair-{i}" for i in range(7)]
    ran.clear()
    assert built(make_pairs(2)).content_hash == store.content_hash
    assert ran == []


def test_an_amended_group_reaches_the_catalog_and_runs_nothing(
    built: Build, make_pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = make_pairs(3)
    built(pairs)
    monkeypatch.setattr("trimtab.store.building.worker.capture", None)
    store = built([replace(pairs[0], group="elsewhere"), *pairs[1:]])
    assert store.samples()[0].group == "elsewhere"


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "marker"])
def test_a_damaged_shard_is_found_by_verify_and_recomputed_by_a_build(
    built: Build, make_pairs: Pairs, damage: str
) -> None:
    store = built(make_pairs(6))
    path = sorted((store.path / "shards").glob("*.activations.parquet"))[1]
    data = bytearray(path.read_bytes())
    path.chmod(0o644)
    if damage == "flip":
        data[len(data) // 2] ^= 255
        path.write_bytes(data)
    elif damage == "cut":
        path.write_bytes(data[:100])
    elif damage == "remove":
        path.unlink()
    else:
        (store.path / "shards" / f"{path.name.split('.')[0]}.json").write_text("{")
    found = store.verify()
    assert found
    assert path.name.split(".")[0] in found[0]
    with pytest.raises(StoreError, match=f"{path.name.split('.')[0]}.*run the same build again"):
        open_store(store.path).sql("SELECT sum(value) FROM activations")
    result = CliRunner().invoke(app, ["verify", str(store.path)])
    assert result.exit_code == 1
    assert path.name.split(".")[0] in result.stdout
    mended = built(make_pairs(6))
    assert mended.verify() == []
    assert mended.content_hash == store.content_hash


def test_a_bit_that_flipped_in_a_shard_never_stays_in_the_catalog(
    built: Build, make_pairs: Pairs
) -> None:
    """Other numbers, committed as if they were those that the marker names."""
    store = built(make_pairs(6))
    path = min((store.path / "shards").glob("*.residuals.parquet"))
    table = pl.read_parquet(path)
    residuals = store.sql("FROM residuals ORDER BY ALL")
    path.chmod(0o644)
    table.with_columns(pl.col("mean").arr.eval(pl.element() * 2)).write_parquet(path)
    assert open_store(store.path).sql("FROM residuals ORDER BY ALL").equals(residuals)
    (store.path / CATALOG).unlink()
    with pytest.raises(StoreError, match=rf"{path.name} .*run the same build again"):
        open_store(store.path)
    mended = built(make_pairs(6))
    assert mended.verify() == []
    assert mended.sql("FROM residuals ORDER BY ALL").equals(residuals)


def test_a_catalog_goes_with_the_first_shard_that_is_discarded(
    built: Build, make_pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been built from that shard, and a crash may come before the next catalog."""
    store = built(make_pairs(6))
    path = min((store.path / "shards").glob("*.tokens.parquet"))
    path.chmod(0o644)
    path.write_bytes(b"other")

    def cut(*_: object) -> None:
        raise PowerCut

    with monkeypatch.context() as patch:
        patch.setattr("trimtab.store.building.worker.capture", cut)
        with pytest.raises(PowerCut):
            built(make_pairs(6))
    assert not (store.path / CATALOG).exists()
    assert built(make_pairs(6)).verify() == []


@pytest.mark.parametrize("where", [0.2, 0.5, 0.8])
def test_a_damaged_catalog_is_built_anew(built: Build, make_pairs: Pairs, where: float) -> None:
    store = built(make_pairs(3))
    rows = store.sql("FROM pooled ORDER BY ALL")
    sound = (store.path / CATALOG).read_bytes()
    data = bytearray(sound)
    data[int(len(data) * where)] ^= 1
    for mend in (open_store, lambda _: built(make_pairs(3))):
        (store.path / CATALOG).write_bytes(data)
        (found,) = store.verify()
        assert "catalog.duckdb was changed since it was built" in found
        mended = mend(store.path)
        assert mended.verify() == []
        assert mended.sql("FROM pooled ORDER BY ALL").equals(rows)


def test_a_copy_that_cannot_be_written_is_checked_when_it_is_opened(
    built: Build, make_pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = built(make_pairs(3))
    (store.path / CHECKED).unlink()

    def refused(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr("trimtab.store.checked.write_atomically", refused)
    copy = store.path.with_name("copy")
    shutil.copytree(store.path, copy)
    read: list[Path] = []

    def counting(file: Path) -> str:
        read.append(file)
        return checksum(file)

    monkeypatch.setattr("trimtab.store.checked.checksum", counting)
    assert open_store(copy).content_hash == store.content_hash
    n_shards = len(list((copy / "shards").glob("*.activations.parquet")))
    assert len(read) == n_shards + 1  # and the catalog
    open_store(copy)
    assert len(read) == n_shards + 1
    path = min((copy / "shards").glob("*.activations.parquet"))
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(StoreError, match="was changed since it was written"):
        open_store(copy)


def test_a_store_without_catalog_that_cannot_be_locked_says_what_it_lacks(
    built: Build, make_pairs: Pairs
) -> None:
    store = built(make_pairs(2))
    (store.path / CATALOG).unlink()
    (store.path / ".lock").unlink()
    (store.path / ".lock").mkdir()  # as good as a folder without leave to write
    with pytest.raises(StoreError, match=r"catalog\.duckdb is missing or damaged.*cannot be writ"):
        open_store(store.path)


@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_plan_file_costs_no_shard_and_mixes_no_samples(
    built: Build, make_pairs: Pairs, lost: int
) -> None:
    built(make_pairs(3))
    store = built(make_pairs(6))
    files = sorted((store.path / "plan").iterdir())
    content = files[lost].read_bytes()
    shard_names = sorted((store.path / "shards").iterdir())
    files[lost].unlink()
    (found,) = store.verify()
    assert "lost" in found
    with pytest.raises(StoreError, match="lost"):
        open_store(store.path)
    with pytest.raises(StoreError, match="lost"):
        built(make_pairs(8))
    assert sorted((store.path / "shards").iterdir()) == shard_names
    files[lost].write_bytes(content)
    assert open_store(store.path).content_hash == store.content_hash


def test_other_settings_are_refused_with_the_fields_that_differ(
    tmp_path: Path, tiny_model: LanguageModel, tiny_sae: SAE, make_pairs: Pairs
) -> None:
    store = build(tmp_path / "s", make_pairs(2), tiny_model, tiny_sae, progress=False)
    with pytest.raises(StoreError) as error:
        build(
            tmp_path / "s",
            make_pairs(2),
            replace(tiny_model, name="another"),
            None,
            hook_point=HookPoint(0, "hook_mlp_out"),
            chat=False,
            max_tokens=50,
            progress=False,
        )
    for field, old, new in (
        ("model", "tiny-llama", "another"),
        ("sae", "tiny", "none"),
        ("hook_point", "blocks.1.hook_resid_post", "blocks.0.hook_mlp_out"),
        ("prompt_form", "chat", "raw"),
        ("max_tokens", "1024", "50"),
        ("d_sae", "48", "0"),
    ):
        assert f"  {field}: the store has {old}, you asked for {new}" in str(error.value)
    assert "model_sha256" not in str(error.value)
    assert "new folder" in str(error.value)
    assert open_store(tmp_path / "s").content_hash == store.content_hash


def test_settings_that_stored_nothing_bind_nobody(
    tmp_path: Path, tiny_model: LanguageModel, make_pairs: Pairs
) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        build(
            tmp_path,
            make_pairs(2),
            tiny_model,
            None,
            hook_point="blocks.9.hook_resid_post",
            progress=False,
        )
    assert open_store(tmp_path).status_counts() == {"pending": 2}
    store = build(tmp_path, make_pairs(2), tiny_model, None, progress=False)
    assert store.sql("SELECT value FROM runs WHERE field = 'hook_point'").item() == (
        "blocks.2.hook_resid_post"
    )
    assert store.verify() == []


def test_a_second_builder_is_refused_and_readers_are_not(built: Build, make_pairs: Pairs) -> None:
    store = built(make_pairs(2))
    with (
        files.building(store.path),
        pytest.raises(StoreError, match=f"being built by another process.*{os.getpid()}"),
    ):
        built(make_pairs(3))
    with files.building(store.path):
        assert open_store(store.path).behaviors() == ["refusal"]
    built(make_pairs(3))


def test_a_folder_of_other_things_is_refused(
    tmp_path: Path, tiny_model: LanguageModel, make_pairs: Pairs
) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(StoreError, match=r"thesis\.tex"):
        build(tmp_path, make_pairs(1), tiny_model, None, progress=False)
    with pytest.raises(StoreError, match="is a file"):
        build(tmp_path / "thesis.tex", make_pairs(1), tiny_model, None, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_sae_is_not_used_at_another_hook_point(
    tmp_path: Path, tiny_model: LanguageModel, tiny_sae: SAE, make_pairs: Pairs
) -> None:
    with pytest.raises(StoreError, match=r"blocks\.1\.hook_resid_post.*blocks\.2"):
        build(
            tmp_path / "s",
            make_pairs(1),
            tiny_model,
            tiny_sae,
            hook_point="blocks.2.hook_resid_post",
        )
    assert not (tmp_path / "s").exists()


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(
    built: Build, make_pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = built(make_pairs(6), "expected")
    calls = 0

    def interrupted(model: LanguageModel, batch: list[Tokenised], encoders: Any) -> object:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise KeyboardInterrupt
        return capture(model, batch, encoders)

    with monkeypatch.context() as patch:
        patch.setattr("trimtab.store.building.worker.capture", interrupted)
        with pytest.raises(
            KeyboardInterrupt,
            match="stopped; 2 of 6 samples are kept; run the same command again",
        ):
            built(make_pairs(6))
    assert built(make_pairs(6)).content_hash == expected.content_hash


def test_a_full_disk_is_told_plainly_and_the_build_resumes(
    built: Build, make_pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = built(make_pairs(6), "expected")
    for room in (0, 1, 4, 9):
        commits = iter(range(room))

        def full(temporary: Path, path: Path, commits: Iterator[int] = commits) -> None:
            if next(commits, None) is None:
                raise OSError(28, "No space left on device")
            commit(temporary, path)

        with monkeypatch.context() as patch:
            patch.setattr("trimtab.store.files.commit", full)
            with pytest.raises(
                StoreError, match=r"No space left on device.*run the same build again"
            ):
                built(make_pairs(6))
        assert not list((expected.path.parent / "store").rglob("*.tmp"))
    resumed = built(make_pairs(6))
    assert resumed.content_hash == expected.content_hash
    assert resumed.verify() == []


def test_the_bar_tells_samples_and_rate(
    tmp_path: Path,
    tiny_model: LanguageModel,
    make_pairs: Pairs,
    capsys: pytest.CaptureFixture[str],
) -> None:
    build(tmp_path / "s", make_pairs(3), tiny_model, None)
    shown = capsys.readouterr()
    assert "3/3" in shown.err
    assert "samples/s" in shown.err
    assert "tokens/s" in shown.err
    assert "of about" in shown.err
    assert shown.out == ""
