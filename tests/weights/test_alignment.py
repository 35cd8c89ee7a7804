"""The alignment heads of checkpoints that list none."""

from __future__ import annotations

from pathlib import Path

import pytest
from max_whisper.spec import load_spec
from max_whisper.weights.alignment import choose_heads, read_alignment_heads

HUB = Path(__file__).parents[3] / "shared" / "hub"


@pytest.mark.skipif(not HUB.is_dir(), reason="needs configurations of the Hub in ../shared/hub")
def test_alignment_heads_are_those_of_the_hub() -> None:
    listed = read_alignment_heads(lambda name: HUB / "whisper-tiny" / name, [6] * 4, 51865)
    chosen = choose_heads([], [6] * 4, 51865)
    assert not listed.origin and chosen.heads == listed.heads
    assert chosen.origin == "word times follow the alignment heads of OpenAI's tiny, as the checkpoint lists none"


COUNTS = {"tiny": 6, "base": 8, "small": 10, "medium": 6, "large-v2": 23, "large-v3": 10, "large-v3-turbo": 6}
COUNTS |= {"tiny.en": 8, "base.en": 5, "small.en": 19, "medium.en": 18}


@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_every_published_model_has_its_heads(name: str, count: int) -> None:
    """Their numbers are those of openai/whisper (`_ALIGNMENT_HEADS`)."""
    spec = load_spec(f"{name}.yaml")
    heads = [layer.heads for layer in spec.cross_attentions()]
    chosen = choose_heads([], heads, spec.n_vocab)
    assert len(chosen.heads) == count and f"OpenAI's {name}," in chosen.origin
    assert chosen.heads == sorted({*chosen.heads})
    assert all(head < heads[layer] for layer, head in chosen.heads)


@pytest.mark.parametrize(
    ("heads", "n_vocab"),
    [([6] * 4, 51866), ([6, 6, 6, 4], 51865), ([20] * 2, 51866)],  # the last is distil-large-v3: other layers
)
def test_alignment_heads_of_unknown_models(heads: list[int], n_vocab: int) -> None:
    half = len(heads) // 2
    chosen = choose_heads([], heads, n_vocab)
    assert chosen.heads == [(layer, head) for layer in range(half, len(heads)) for head in range(heads[layer])]
    assert "last half of the layers" in chosen.origin


def test_listed_heads_are_taken_in_a_published_model_too() -> None:
    assert choose_heads([(3, 1), (0, 5)], [6] * 4, 51865).heads == [(0, 5), (3, 1)]
