"""The formats of output, a file for each; every module here is imported when a format is asked for."""
