"""Live transcription beside other live transcribers, on recordings that are replayed at the speed of time."""
