"""The streaming network in PyTorch: causal convolutions, a GRU, and the letters."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

STRIDE = 3  # frames for each row: 30 ms
FIRST, LATER = 5, 7  # kernel sizes
BLOCKS = 2
LETTERS = " abcdefghijklmnopqrstuvwxyz'"
LABELS = ("<blank>", *LETTERS)  # the blank comes first
BLANK = 0


class Network(nn.Module):
    """Maps features (batch, frames, bands) and states to log probabilities and new states.

    The states are the last inputs of each convolution and the hidden vectors of the GRU; zeros at
    the beginning of a recording. ``frames`` is a multiple of ``STRIDE``.
    """

    def __init__(self, width: int, hidden: int, mean: np.ndarray, scale: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(mean))
        self.register_buffer("scale", torch.from_numpy(scale))
        self.width, self.hidden = width, hidden
        self.first = nn.Conv1d(len(mean), width, FIRST, stride=STRIDE)
        self.along = nn.ModuleList(
            nn.Conv1d(width, width, LATER, groups=width) for _ in range(BLOCKS)
        )
        self.across = nn.ModuleList(nn.Conv1d(width, width, 1) for _ in range(BLOCKS))
        self.gru = nn.GRU(width, hidden, num_layers=2, batch_first=True)
        self.letters = nn.Linear(hidden, len(LABELS))

    def states(self, batch: int) -> tuple[torch.Tensor, ...]:
        """The states before the first frame."""
        return (
            torch.zeros(batch, len(self.mean), FIRST - STRIDE),
            *(torch.zeros(batch, self.width, LATER - 1) for _ in range(BLOCKS)),
            torch.zeros(2, batch, self.hidden),
        )

    def forward(self, features: torch.Tensor, *states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Maps (batch, frames, bands) to (batch, frames / STRIDE, labels) and the new states."""
        frames = ((features - self.mean) / self.scale).transpose(1, 2)
        padded = torch.cat([states[0], frames], dim=2)
        kept = [padded[:, :, -(FIRST - STRIDE) :]]
        rows = functional.relu(self.first(padded))
        for along, across, state in zip(self.along, self.across, states[1:-1], strict=True):
            padded = torch.cat([state, rows], dim=2)
            kept.append(padded[:, :, -(LATER - 1) :])
            rows = rows + functional.relu(across(along(padded)))
        hidden, last = self.gru(rows.transpose(1, 2), states[-1])
        hidden = functional.dropout(hidden, 0.1, self.training)
        return (self.letters(hidden).log_softmax(-1), *kept, last)
