"""`max-whisper inspect`: what counts as a parameter."""

from __future__ import annotations

from pathlib import Path

from support.command import run

TINY = Path(__file__).resolve().parents[2] / "specs" / "tiny.yaml"
STORED = "length: $n_audio_ctx, weights: model.encoder.embed_positions"


def test_tables_that_are_computed_are_no_parameters(tmp_path: Path) -> None:
    """The table of `sinusoidal` positions, 1500 × 384, is in no checkpoint."""
    text = TINY.read_text()
    assert text.count(STORED) == 1
    (tmp_path / "sinusoids.yaml").write_text(text.replace(STORED, "length: $n_audio_ctx, sinusoidal: true"))
    stored, computed = (run("inspect", path).stdout for path in (TINY, tmp_path / "sinusoids.yaml"))
    assert "37,760,640 in 167 tensors" in stored and "computed" not in stored
    assert f"{37_760_640 - 576_000:,} in 166 tensors" in computed
    assert "576,000 computed" in computed and "576,000 in 1 tensor " in computed
