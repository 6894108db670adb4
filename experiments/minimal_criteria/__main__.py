"""Run the study: `python -m experiments.minimal_criteria --out runs/experiments`."""

from experiments.command import command
from experiments.minimal_criteria.study import SIZES, study
from experiments.minimal_criteria.table import draw

command("minimal_criteria", study, draw, SIZES)
