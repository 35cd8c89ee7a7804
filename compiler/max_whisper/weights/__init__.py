"""Where weights come from: the Hub, a folder or a file, in one of several formats, and the vocabulary with them."""
