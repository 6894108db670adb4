"""Run the study: `python -m experiments.ravel --out runs/experiments --data DATA`."""

from experiments.command import command
from experiments.ravel.study import SIZES, study
from experiments.ravel.table import draw

command("ravel", study, draw, SIZES, reads=("ravel",))
