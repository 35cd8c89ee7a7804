"""Tree of layers -> list of ops -> passes -> a backend's graph; knows no files and no Hub."""
