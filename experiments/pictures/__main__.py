"""Run the study: `python -m experiments.pictures --out runs/experiments`."""

from experiments.command import command
from experiments.pictures.study import SIZES, study
from experiments.pictures.table import draw

command("pictures", study, draw, SIZES)
