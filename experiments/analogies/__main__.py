"""Run the study: `python -m experiments.analogies --out runs/experiments`."""

from experiments.analogies.study import SIZES, study
from experiments.analogies.table import draw
from experiments.command import command

command("analogies", study, draw, SIZES)
