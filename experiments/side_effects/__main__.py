"""Run the study: `python -m experiments.side_effects --out runs/experiments --data DATA`."""

from experiments.command import command
from experiments.side_effects.study import SIZES, study
from experiments.side_effects.table import draw

command("side_effects", study, draw, SIZES, reads=("caa/test/mmlu/mmlu.json",))
