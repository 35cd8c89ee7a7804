"""Voice activity detection by a model: how likely somebody speaks, and the parts of a recording with speech."""
