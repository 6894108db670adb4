"""sae_lens' BatchTopK training steps, computed only where features are active.

A step of sae_lens multiplies dense matrices whose entries are zero for 99 features of 100. On a CPU
that is most of the time. Here the encoder alone is dense; decoding and every gradient visit the
active entries. Losses, gradients and thresholds are those of sae_lens (a test holds them side by
side), and its `SAETrainer` drives these classes as it drives its own.

With `rescale_acts_by_decoder_norm` an activation is multiplied by its decoder row's norm to be
selected and divided by it to be decoded, so the norm decides which entries are active and cancels
from everything else.
"""

from typing import Any

import torch
from sae_lens import (
    BatchTopKTrainingSAE,
    BatchTopKTrainingSAEConfig,
    MatryoshkaBatchTopKTrainingSAE,
    MatryoshkaBatchTopKTrainingSAEConfig,
)
from sae_lens.saes.sae import TrainStepInput, TrainStepOutput
from torch import Tensor
from torch.nn.functional import embedding_bag


class SparseBatchTopK(BatchTopKTrainingSAE):  # type: ignore[misc]
    """BatchTopK (Bussmann et al., 2024, arXiv:2412.06410)."""

    def training_forward_pass(self, step_input: TrainStepInput) -> TrainStepOutput:
        """Return losses and reconstruction of a batch `(n, d_in)`; see sae_lens."""
        return _step(self, step_input, [])


class SparseMatryoshka(MatryoshkaBatchTopKTrainingSAE):  # type: ignore[misc]
    """Matryoshka BatchTopK (Bussmann et al., 2025, arXiv:2503.17547)."""

    def training_forward_pass(self, step_input: TrainStepInput) -> TrainStepOutput:
        """Return losses, one more for each inner width, and reconstruction of a batch."""
        return _step(self, step_input, self.cfg.matryoshka_widths[:-1])


def training_sae(config: BatchTopKTrainingSAEConfig) -> BatchTopKTrainingSAE:
    """Return the training SAE for a config: sparse on a CPU, sae_lens' own on a GPU."""
    matryoshka = isinstance(config, MatryoshkaBatchTopKTrainingSAEConfig)
    if torch.device(config.device).type == "cpu":
        return SparseMatryoshka(config) if matryoshka else SparseBatchTopK(config)
    return MatryoshkaBatchTopKTrainingSAE(config) if matryoshka else BatchTopKTrainingSAE(config)


def _step(sae: Any, step_input: TrainStepInput, inner_widths: list[int]) -> TrainStepOutput:
    x = step_input.sae_in
    centred = x - sae.b_dec
    with torch.no_grad():
        norms = sae.W_dec.norm(dim=1)
        hidden = torch.addmm(sae.b_enc, centred, sae.W_enc)
        score = hidden * norms
        rows, columns = _active(score, int(sae.cfg.k * len(x)), getattr(sae, "lowest", 0.0))
        chosen = score[rows, columns]
        if len(chosen):
            sae.lowest = float(chosen.min())
            rate = sae.cfg.topk_threshold_lr
            sae.topk_threshold = (1 - rate) * sae.topk_threshold + rate * sae.lowest
    values = _apply(_Encode, centred, sae.W_enc, sae.b_enc, rows, columns, hidden[rows, columns])
    output = sae.b_dec.expand_as(x)
    losses: dict[str, Tensor] = {}
    start = 0
    for width in [*inner_widths, sae.cfg.d_sae]:
        if inner_widths:
            part = (columns >= start) & (columns < width)
            decoded = _apply(_Decode, values[part], sae.W_dec, rows[part], columns[part], len(x))
        else:
            decoded = _apply(_Decode, values, sae.W_dec, rows, columns, len(x))
        output = output + decoded
        name = "mse_loss" if width == sae.cfg.d_sae else f"inner_mse_loss_{width}"
        losses[name] = (output - x).pow(2).sum(dim=-1).mean()
        start = width
    losses["auxiliary_reconstruction_loss"] = _auxiliary(
        sae, x, output, centred, step_input.dead_neuron_mask
    )
    return TrainStepOutput(
        sae_in=x,
        sae_out=output,
        feature_acts=torch.sparse_coo_tensor(
            torch.stack([rows, columns]),
            chosen,
            score.shape,
            is_coalesced=True,
            check_invariants=False,
        ),
        hidden_pre=hidden,
        loss=torch.stack(list(losses.values())).sum(),
        losses=losses,
        metrics={"topk_threshold": sae.topk_threshold},
    )


def _active(score: Tensor, count: int, before: float) -> tuple[Tensor, Tensor]:
    """Return rows and columns of the `count` largest positive scores, in row-major order.

    Almost all scores lie far below `before`, the lowest that the last step chose: only those near
    it and above are sorted.
    """
    flat = score.flatten()
    near = (flat > 0.9 * before).nonzero().squeeze(1)
    if len(near) < count:
        near = (flat > 0).nonzero().squeeze(1)
    if len(near) > count:
        near = near[flat[near].topk(count, sorted=False).indices].sort().values
    return near // score.shape[1], near % score.shape[1]


def _auxiliary(sae: Any, x: Tensor, output: Tensor, centred: Tensor, dead: Tensor | None) -> Tensor:
    """Let dead features reconstruct what the living ones leave over (Gao et al., 2024, A.2)."""
    if dead is None or not (count := int(dead.sum())):
        return x.new_tensor(0.0)
    k = x.shape[-1] // 2
    scale = min(count / k, 1.0)
    decoder = sae.W_dec[dead]
    hidden = centred @ sae.W_enc[:, dead] + sae.b_enc[dead]
    score = hidden * decoder.norm(dim=1)
    chosen = score.detach().topk(min(k, count), sorted=False).indices
    kept = torch.zeros_like(hidden).scatter(-1, chosen, hidden.gather(-1, chosen))
    loss: Tensor = (kept @ decoder - (x - output).detach()).pow(2).sum(dim=-1).mean()
    return loss * (scale * float(sae.cfg.aux_loss_coefficient))


def _apply(function: Any, *args: Any) -> Tensor:
    return function.apply(*args)  # type: ignore[no-any-return]  # torch leaves it untyped


class _Encode(torch.autograd.Function):
    """The entries `(rows, columns)` of `x @ W + b`, which the caller has computed already."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, W: Tensor, b: Tensor, rows: Tensor, columns: Tensor, values: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, W, b, rows, columns)
        return values

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, W, b, rows, columns = ctx.saved_tensors
        to_b = torch.zeros_like(b).index_add_(0, columns, gradient)
        to_x = _sums(W.T.contiguous(), columns, rows, gradient, len(x))
        order = columns.argsort(stable=True)
        to_W = _sums(x, rows[order], columns[order], gradient[order], len(b)).T
        return to_x, to_W, to_b, None, None, None


class _Decode(torch.autograd.Function):
    """`S @ W` `(n, d_in)` for the sparse `S` `(n, d_sae)` of entries `(rows, columns, values)`."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, W: Tensor, rows: Tensor, columns: Tensor, n: int
    ) -> Tensor:
        ctx.save_for_backward(values, W, rows, columns)
        return _sums(W, columns, rows, values, n)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        values, W, rows, columns = ctx.saved_tensors
        to_values = torch.ops.aten._embedding_bag_per_sample_weights_backward(
            gradient, W, columns, columns.new_empty(0), rows, 0
        )  # the row-wise dot products of gradient[rows] and W[columns], without writing those out
        order = columns.argsort(stable=True)
        to_W = _sums(gradient, rows[order], columns[order], values[order], len(W))
        return to_values, to_W, None, None, None


def _sums(table: Tensor, picked: Tensor, into: Tensor, weights: Tensor, n: int) -> Tensor:
    """Return `(n, d)`: row i sums `weights * table[picked]` where `into` is i; `into` ascends."""
    offsets = torch.searchsorted(into, torch.arange(n, device=into.device))
    sums: Tensor = embedding_bag(picked, table, offsets, mode="sum", per_sample_weights=weights)
    return sums
