"""Features as the listener's page names them."""

from __future__ import annotations

from segue.features import FEATURES
from segue.serving.words import features_in_words


def test_every_feature_has_words_of_its_own() -> None:
    words = features_in_words()
    assert list(words) == list(FEATURES)
    assert len(set(words.values())) == len(words)
    for name, said in words.items():
        assert said != FEATURES[name].doc.rstrip("."), (
            f"{name}: put words for a listener into serving/words.py"
        )
        assert "_" not in said
        assert "{" not in said
    assert words["track_skip_rate_7d"] == "how often this track is skipped, in 7 days"
    assert words["listener_plays_1h"] == "how much you listen, in 1 hour"
    assert words["listener_artist_followed"] == "whether you follow this artist"
    assert words["source_graph_score"] == "listeners like you play it: how strongly"
