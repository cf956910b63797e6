import pytest

from vsam_heatmaps.counting import counted


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0 shards"), (1, "1 shard"), (2, "2 shards"), (21, "21 shards")]
)
def test_a_noun_agrees_with_its_number(number, said):
    assert counted(number, "shard") == said


def test_more_of_the_sentence_may_agree():
    assert counted(1, "photo has", "photos have") == "1 photo has"
    assert counted(3, "photo has", "photos have") == "3 photos have"
