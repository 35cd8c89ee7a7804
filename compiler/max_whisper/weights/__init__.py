"""The sources of weights: the Hub, a folder or a file, in one of several formats, with the vocabulary beside them."""
