"""Settings: later origins win, unknown keys are refused with the nearest known one, values keep their limits."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from segue.contracts.errors import InvalidSettings
from segue.settings import Settings, load_settings
from segue.settings.tree import Key


def test_origins_override_each_other_in_order(tmp_path: Path) -> None:
    (tmp_path / "segue.toml").write_text("[serving]\nport = 1\nworkers = 3\nmax_k = 77\n")
    loaded = load_settings(
        tmp_path,
        environ={"SEGUE_SERVING__PORT": "2", "SEGUE_SERVING__WORKERS": "4"},
        overrides=["serving.port=5"],
    )
    assert (loaded.serving.port, loaded.serving.workers, loaded.serving.max_k) == (5, 4, 77)


def test_defaults_round_trip_through_toml_like_trees(tmp_path: Path) -> None:
    assert load_settings(tmp_path) == Settings()
    assert msgspec.convert(msgspec.to_builtins(Settings()), Settings) == Settings()


def test_surfaces_are_settings(tmp_path: Path) -> None:
    loaded = load_settings(
        tmp_path,
        environ={"SEGUE_SURFACES__NEXT_UP__SELECTOR__EXPLORE": "0.25"},
        overrides=["surfaces.home.sources.trending.limit=7", "surfaces.home.scorer.weights.like=2.5"],
    )
    assert loaded.surfaces["next-up"].selector.explore == 0.25
    assert loaded.surfaces["home"].sources["trending"].limit == 7
    assert loaded.surfaces["home"].scorer.weights["like"] == 2.5


def test_properties_of_spark_keep_the_dots_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "segue.toml").write_text(
        '[warehouse.spark.conf]\n"spark.executor.memory" = "4g"\nspark.executor.cores = 2\n'
    )
    loaded = load_settings(tmp_path, overrides=["warehouse.spark.conf.spark.speculation=true"])
    assert loaded.warehouse.spark.conf == {
        "spark.executor.memory": "4g",
        "spark.executor.cores": "2",
        "spark.speculation": "true",
    }


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("serving.prot=1", "did you mean serving.port?"),
        ("serving.port=99999", "serving.port: must be a whole number"),
        ("serving.port=eighty", "serving.port: must be a whole number"),
        ("serving=3", "--set: serving: must be a section, not a whole number"),
        ("serving.port.x=1", "serving.port is a value"),
        ("state.redis.url.x=1", "state.redis.url is a value"),
        ("nonsense", "section.key=value"),
        ("surfaces.home.selector.debuts=0.5", "surfaces.home: must be a recipe with the source `debuts`"),
        ("training.factors=0", "training.factors: must be a whole number >= 8"),
        ("state.kind=lmbd", "'lmbd' must be one of lmdb, bigtable, dynamodb, redis; did you mean lmdb?"),
        ("state.kind=7", "state.kind: must be text, not a whole number"),
        ("surfaces.hoem.selector.explore=0.1", "did you mean surfaces.home?"),
        ("surfaces.hoem.sources.trending.limit=1", "did you mean surfaces.home?"),
        ("surfaces.home.selector.explroe=0.1", "did you mean surfaces.home.selector.explore?"),
        ("surfaces.home={selector={explroe=0.1}}", "did you mean surfaces.home.selector.explore?"),
        ("surfaces.home.selector.explore=2", "surfaces.home.selector.explore: must be a number <= 1.0"),
        ("surfaces.home.sources.trending.limit=-1", "surfaces.home.sources.trending.limit: must be"),
        ("surfaces.next-up.deadline_ms=0", "surfaces.next-up.deadline_ms: must be a whole number >= 1"),
        ("training.rankers.home.trees=0", "training.rankers.home.trees: must be"),
        ("serving.keys.web.scopes=['read']", "serving.keys.web: sha256 is missing"),
        (
            "serving.keys.web.scopes=['wirte']",
            "serving.keys.web.scopes.0: 'wirte' must be one of read, write",
        ),
        ("serving.cors_origins=3", "serving.cors_origins: must be a list, not a whole number"),
    ],
)
def test_mistakes_name_the_key(tmp_path: Path, override: str, said: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        load_settings(tmp_path, overrides=[override])
    assert said in caught.value.message


def test_of_several_origins_the_one_at_fault_is_named(tmp_path: Path) -> None:
    (tmp_path / "segue.toml").write_text("[surfaces.home.selector]\nexplore = 7\n[serving]\nport = 1\n")
    with pytest.raises(InvalidSettings) as caught:
        load_settings(tmp_path, environ={"SEGUE_SERVING__PORT": "2"}, overrides=["serving.max_k=3"])
    assert caught.value.message.startswith(
        f"{tmp_path / 'segue.toml'}: surfaces.home.selector.explore: must be"
    )
    assert (caught.value.field, caught.value.limit) == ("surfaces.home.selector.explore", "a number <= 1.0")
    with pytest.raises(InvalidSettings, match=r"DEADLINE_MS: surfaces\.next-up\.deadline_ms"):
        load_settings(Path("none"), environ={"SEGUE_SURFACES__NEXT_UP__DEADLINE_MS": "0"})


def test_names_may_be_added_where_a_section_has_names(tmp_path: Path) -> None:
    key = "".join(f"{n:x}" for n in range(16)) * 4
    (tmp_path / "segue.toml").write_text(f'[serving.keys.web]\nsha256 = "{key}"\nscopes = ["write"]\n')
    loaded = load_settings(
        tmp_path, overrides=["serving.keys.web.events_per_s=5", "surfaces.playlist.sources.fresh.limit=3"]
    )
    assert loaded.serving.keys == {"web": Key(key, ("write",), 5)}
    assert loaded.surfaces["playlist"].sources["fresh"].limit == 3


@pytest.mark.parametrize("text", ["[serving\nport = 1", "\xff\xfe"])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "segue.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidSettings, match=r"segue\.toml"):
        load_settings(tmp_path)


def test_a_config_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="no such settings file"):
        load_settings(tmp_path, config=tmp_path / "absent.toml")
