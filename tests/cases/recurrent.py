"""The recurrent cells that properties run over."""

from fnnet import GRUCell, LSTMCell, RNNCell
from fnnet.layers.cells import Cell

CELLS: dict[str, Cell] = {
    "rnn": RNNCell(3),
    "gru": GRUCell(3),
    "gru, reset before": GRUCell(3, reset_after=False),
    "lstm": LSTMCell(3),
}
