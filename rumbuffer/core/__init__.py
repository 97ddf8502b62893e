"""The sans-I/O core: every rule, no loop, no socket, no clock."""
