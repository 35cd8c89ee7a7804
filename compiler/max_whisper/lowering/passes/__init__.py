"""The passes between recording and emitting: each takes a program and returns one."""
