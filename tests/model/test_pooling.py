"""The mean over a text's tokens does not depend on what it is batched with."""

import torch

from trimtab.model.hook_points import parse_hook_point
from trimtab.model.hooks import residuals
from trimtab.model.language_model import LanguageModel
from trimtab.model.pooling import mean_residuals

POINT = parse_hook_point("blocks.1.hook_resid_post")


def test_means_are_those_of_each_row_alone_from_its_start_on(family_model: LanguageModel) -> None:
    rows = [[5, 6, 7, 8, 9, 10], [11, 12], [13, 14, 15, 16]]
    starts = [2, 1, 0]
    found = mean_residuals(family_model, POINT, rows, starts)
    for row, start, mean in zip(rows, starts, found, strict=True):
        seen = residuals(family_model, torch.tensor([row]), None, [POINT])[POINT]
        torch.testing.assert_close(mean, seen[0, start:].mean(0), atol=1e-4, rtol=1e-4)
