"""Tree of layers -> list of ops -> passes -> a target's graph; knows no files and no Hub."""
