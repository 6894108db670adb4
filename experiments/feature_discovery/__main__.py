"""Run the study: `python -m experiments.feature_discovery --out runs/experiments`."""

from experiments.command import command
from experiments.feature_discovery.study import SIZES, study
from experiments.feature_discovery.table import draw

command("feature_discovery", study, draw, SIZES)
