"""Reads recordings, and makes what the model takes of them: waveforms, log-mel spectrograms, parts with speech."""
