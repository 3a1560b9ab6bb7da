"""Settings: later origins win, unknown keys are refused with the nearest known one, values keep their limits."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from segue.contracts.errors import InvalidSettings
from segue.settings import Settings, load_settings


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
        ("serving.port=99999", "$.serving.port"),
        ("serving.port=eighty", "$.serving.port"),
        ("serving=3", "$.serving"),
        ("serving.port.x=1", "serving.port is a value"),
        ("nonsense", "section.key=value"),
        ("training.factors=0", "$.training.factors"),
    ],
)
def test_mistakes_name_the_key(tmp_path: Path, override: str, said: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        load_settings(tmp_path, overrides=[override])
    assert said in caught.value.message


@pytest.mark.parametrize("text", ["[serving\nport = 1", "\xff\xfe"])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "segue.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidSettings, match=r"segue\.toml"):
        load_settings(tmp_path)


def test_a_config_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="no such settings file"):
        load_settings(tmp_path, config=tmp_path / "absent.toml")
