"""The artifact: the format of its folder, and how one is checked and loaded."""
