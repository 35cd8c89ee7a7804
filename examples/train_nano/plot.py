"""Plots losses.csv of a training: `python plot.py WORK/losses.csv training.png`."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot

SMOOTH = 50  # steps of the moving average


def plot(losses: Path, picture: Path) -> None:
    """Draws cross-entropy, CTC loss and word error rate over the steps."""
    rows = np.genfromtxt(losses, delimiter=",", names=True)
    figure, (loss, rate) = pyplot.subplots(2, sharex=True, figsize=(8, 6), layout="constrained")
    kernel = np.ones(SMOOTH) / SMOOTH
    for name, label in (("cross_entropy", "cross-entropy of a token"), ("ctc", "CTC loss of a word")):
        loss.plot(rows["step"][SMOOTH - 1 :], np.convolve(rows[name], kernel, "valid"), label=label)
    loss.set(yscale="log", ylabel=f"mean of {SMOOTH} steps", title="Training of whisper-nano")
    loss.legend()
    measured = ~np.isnan(rows["word_error_rate"])
    rate.plot(rows["step"][measured], 100 * rows["word_error_rate"][measured], "o-", markersize=3)
    rate.set(ylabel="word error rate, %\n(unheard voices, 10 s)", xlabel="step", ylim=(0, 100))
    for axis in (loss, rate):
        axis.grid(alpha=0.3)
    figure.savefig(picture, dpi=100)


if __name__ == "__main__":
    plot(Path(sys.argv[1]), Path(sys.argv[2]))
