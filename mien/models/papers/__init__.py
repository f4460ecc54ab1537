"""The papers' from-scratch networks, one file a paper."""
