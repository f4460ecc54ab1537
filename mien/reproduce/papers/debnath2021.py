"""Debnath et al. 2021: a ConvNet of four convolutional and two dense blocks."""

from mien.reproduce.spec import load

SYSTEM = load("debnath2021")
