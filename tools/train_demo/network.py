"""The DeepSpeech 0.7.1 acoustic network in PyTorch, and its weights under DeepSpeech's names."""

from __future__ import annotations

import numpy as np
import torch
from features import N_CONTEXT, N_INPUT
from torch import nn
from torch.nn import functional

RELU_CLIP = 20.0
N_OUTPUT = 29  # space, a to z, apostrophe, blank
BLANK = N_OUTPUT - 1
CELL = "cudnn_lstm/rnn/multi_rnn_cell/cell_0/cudnn_compatible_lstm_cell"


class Network(nn.Module):
    """Three clipped dense layers, one LSTM, one clipped dense layer, one linear layer."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, width: int, mean: np.ndarray, scale: np.ndarray, dropout: float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(mean))
        self.register_buffer("scale", torch.from_numpy(scale))
        window = (2 * N_CONTEXT + 1) * N_INPUT
        self.layer_1 = nn.Linear(window, width)
        self.layer_2 = nn.Linear(width, width)
        self.layer_3 = nn.Linear(width, width)
        self.lstm = nn.LSTM(width, width)
        self.layer_5 = nn.Linear(width, width)
        self.layer_6 = nn.Linear(width, N_OUTPUT)
        self.dropout = dropout
        for layer in (self.layer_1, self.layer_2, self.layer_3, self.layer_5):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        with torch.no_grad():  # the forget gate starts open; the bias of the operation stays 0
            self.lstm.bias_ih_l0[width : 2 * width] = 1.0

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features [batch, time, 26], zeros after each end, to logits [time, batch, 29]."""
        padded = functional.pad(features, (0, 0, N_CONTEXT, N_CONTEXT))
        padded = (padded - self.mean) / self.scale
        windows = padded.unfold(1, 2 * N_CONTEXT + 1, 1)  # [batch, time, 26, 19]
        hidden = windows.permute(1, 0, 3, 2).flatten(2)  # frame-major, as DeepSpeech has it
        for layer in (self.layer_1, self.layer_2, self.layer_3):
            hidden = _clipped(layer(hidden))
        hidden, _ = self.lstm(hidden)
        hidden = functional.dropout(_clipped(self.layer_5(hidden)), self.dropout, self.training)
        return self.layer_6(hidden)


def _clipped(hidden: torch.Tensor) -> torch.Tensor:
    return functional.hardtanh(hidden, 0.0, RELU_CLIP)


def deepspeech_weights(network: Network) -> dict[str, np.ndarray]:
    """The weights by DeepSpeech variable name, with the normalisation folded into layer_1."""

    def array(tensor: torch.Tensor) -> np.ndarray:
        return tensor.detach().double().numpy()

    weights = {}
    for number in (1, 2, 3, 5, 6):
        layer = getattr(network, f"layer_{number}")
        weights[f"layer_{number}/weights"] = array(layer.weight).T
        weights[f"layer_{number}/bias"] = array(layer.bias)
    frames = 2 * N_CONTEXT + 1
    mean, scale = np.tile(array(network.mean), frames), np.tile(array(network.scale), frames)
    folded = weights["layer_1/weights"] / scale[:, None]
    weights["layer_1/bias"] = weights["layer_1/bias"] - mean @ folded
    weights["layer_1/weights"] = folded
    lstm = network.lstm
    kernel = np.concatenate([array(lstm.weight_ih_l0), array(lstm.weight_hh_l0)], axis=1).T
    bias = array(lstm.bias_ih_l0) + array(lstm.bias_hh_l0)
    weights[f"{CELL}/kernel"] = _reordered(kernel)
    weights[f"{CELL}/bias"] = _reordered(bias)
    return {name: np.ascontiguousarray(value, np.float32) for name, value in weights.items()}


def _reordered(gates: np.ndarray) -> np.ndarray:
    """PyTorch's gate order i, f, c, o along the last axis to TensorFlow's i, c, f, o."""
    i, f, c, o = np.split(gates, 4, axis=-1)
    return np.concatenate([i, c, f, o], axis=-1)
