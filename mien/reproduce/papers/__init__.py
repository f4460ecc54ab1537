"""One module a paper: its system as data, with the place in the paper of every figure."""
