"""Small models for tests: specs, checkpoints with random weights.

What a test needs, and what makes it:

    a spec of Whisper's layers          small.write_spec(folder, name, **dims)
    a checkpoint for it                 checkpoint.write_checkpoint(folder, **dims)
    the vocabulary alone                vocabulary.make_tokens(family)
    the least that compiles             thin.write_thin(folder), a spec and its checkpoint
    a spec as text, to change           mini.MINI, mini.changed, mini.write
    the ops of a spec                   mini.recorded
    an artifact, or a loaded model      the fixtures of conftest.py
"""
