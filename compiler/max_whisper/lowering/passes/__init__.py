"""What is done to a program between a spec and a target: each pass takes a program and returns one."""
