"""Run the study: `python -m experiments.feature_naming --out runs/experiments`."""

from experiments.command import command
from experiments.feature_naming.study import SIZES, study
from experiments.feature_naming.table import draw

command("feature_naming", study, draw, SIZES)
