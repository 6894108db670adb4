"""Run the study: `python -m experiments.feature_vectors --out runs/experiments`."""

from experiments.command import command
from experiments.feature_vectors.study import SIZES, study
from experiments.feature_vectors.table import draw

command("feature_vectors", study, draw, SIZES)
