"""Run the study: `python -m experiments.successors --out runs/experiments`."""

from experiments.command import command
from experiments.successors.study import SIZES, study
from experiments.successors.table import draw

command("successors", study, draw, SIZES)
