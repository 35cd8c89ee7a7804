"""The other live transcribers: how each is installed, and a program for each that prints its events as they happen."""
