"""What the protocols share by which sound is transcribed while it is said."""
