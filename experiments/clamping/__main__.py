"""Run the study: `python -m experiments.clamping --out runs/experiments --data DATA`."""

from experiments.clamping.study import SIZES, study
from experiments.clamping.table import draw
from experiments.command import command

command("clamping", study, draw, SIZES, reads=("truthfulqa/mc_task.json", "gsm8k/test.jsonl"))
