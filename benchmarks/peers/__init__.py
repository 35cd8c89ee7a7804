"""max-whisper beside the other implementations of Whisper, on the same machine and in turns."""
