"""Voice activity detection by a model: the probability that somebody speaks, and the parts of a recording with speech."""
