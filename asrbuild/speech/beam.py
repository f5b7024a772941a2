"""CTC prefix beam search in numpy, as ds-ctcdecoder 0.9.3 does it without a scorer.

A prefix is a node of a tree of labels. After each step every prefix in the beam has two log
probabilities: of all its alignments that end in a blank, and of all that do not. A step extends all
prefixes by all labels at once, as one (beam, labels) table; an extension that is in the beam
already is added to its prefix, and the best ``beam_width`` of the rest are kept.

Shared with ds-ctcdecoder: leading steps with blank >= 0.999 are skipped; ``cutoff_top_n`` counts
only when ``cutoff_prob`` < 1; the step of a label is that of its likeliest extension.
Not shared: sums are float64 here and float32 in ds-ctcdecoder, so hypotheses that are equally
likely to about six digits can swap places.

With thousands of labels only a part of the table is made. Sort the beam by score and the labels by
probability: extension (i, r), of the prefix with i better prefixes by the label with r better
labels, is at most as good as every extension (i', r') with i' <= i and r' <= r. All of these
compete, in the table or as a prefix that is in the beam already, except one in each row: a label
after itself. So at least (i + 1) r - 1 others come before (i, r); if these fill the beam, (i, r)
cannot enter.
"""

from __future__ import annotations

import numpy as np

from asrbuild.base.array import Array
from asrbuild.speech.decoder import (
    Decoder,
    DecoderStream,
    Hypothesis,
    LabelPath,
    check_probabilities,
    hypothesis,
)
from asrbuild.speech.decoder_settings import DecoderSettings
from asrbuild.speech.tokens import Tokens

TINY = float(np.finfo(np.float32).tiny)
SKIP_BLANK = 0.999
COMPACT_AT = 1 << 18
#: With at most so many labels the whole table is made; no DeepSpeech model has more.
WHOLE_TABLE = 256


class _Tree:
    """A tree of prefixes: each node has its parent's index and a value, but no children."""

    def __init__(self) -> None:
        self.parent: Array = np.zeros(1024, np.int64)
        self.value: Array = np.full(1024, -1, np.int64)
        self.count = 1  # the root is node 0

    def add(self, parents: Array, values: Array) -> Array:
        """Adds nodes (n,) below ``parents`` (n,); returns their indices."""
        end = self.count + len(parents)
        if end > len(self.parent):
            room = max(end, 2 * len(self.parent)) - len(self.parent)
            self.parent = np.concatenate([self.parent, np.zeros(room, np.int64)])
            self.value = np.concatenate([self.value, np.full(room, -1, np.int64)])
        nodes = np.arange(self.count, end)
        self.parent[nodes], self.value[nodes] = parents, values
        self.count = end
        return nodes

    def path(self, node: int) -> list[int]:
        """The values on the way from the root down to ``node``."""
        values = []
        while node:
            values.append(int(self.value[node]))
            node = int(self.parent[node])
        return values[::-1]

    def compact(self, nodes: Array) -> Array:
        """Drops all but ``nodes`` and their ancestors; returns the new indices of ``nodes``."""
        live = np.zeros(self.count, bool)
        live[0] = True
        level = np.unique(nodes)
        while len(level):
            live[level] = True
            level = np.unique(self.parent[level])
            level = level[~live[level]]
        renamed = np.cumsum(live) - 1
        self.parent = renamed[self.parent[: self.count][live]]
        self.value = self.value[: self.count][live]
        self.count = len(self.parent)
        return renamed[nodes]


class PrefixSearch:
    """The state of one prefix beam search, which takes rows of probabilities as they come."""

    def __init__(self, classes: int, settings: DecoderSettings, blank: int | None = None) -> None:
        self._classes = classes
        self._blank = classes - 1 if blank is None else blank
        self._settings = settings
        self._labels = _Tree()
        self._times = _Tree()
        self._children: dict[int, int] = {}  # node * classes + label -> node
        self._compact_at = COMPACT_AT
        self._place: Array = np.full(1024, -1, np.int64)  # node -> its row in the beam, or -1
        self._place[0] = 0
        # The beam, one row a prefix.
        self._node = np.zeros(1, np.int64)
        self._time = np.zeros(1, np.int64)
        self._label = np.full(1, -1, np.int64)
        self._ends_label = np.full(1, -np.inf)
        self._ends_blank = np.zeros(1)
        self._score = np.zeros(1)
        self._started = False
        self._step = 0

    def feed(self, probabilities: Array) -> None:
        """Takes (k, classes) more steps."""
        for row in np.asarray(probabilities, np.float64):
            # As ds-ctcdecoder does, so that leading silence does not move the first times.
            self._started = self._started or row[self._blank] < SKIP_BLANK
            if self._started:
                self._advance(row)
            self._step += 1

    def best(self, n_best: int) -> list[LabelPath]:
        """The ``n_best`` likeliest prefixes, best first; equal ones in order of the last label."""
        order = np.lexsort((self._label, -self._score))[:n_best]
        return [
            LabelPath(
                tokens=tuple(self._labels.path(self._node[row])),
                steps=tuple(self._times.path(self._time[row])),
                score=float(self._score[row]),
            )
            for row in order
        ]

    def best_tokens(self) -> list[int]:
        """The labels of the likeliest prefix."""
        return self._labels.path(self._node[self._score.argmax()])

    def _advance(self, row: Array) -> None:
        blank = self._blank
        tried, blank_rank = self._tried(row)
        logs = np.full(self._classes + 1, -np.inf)  # last entry: the root's label, -1
        logs[tried] = np.log(row[tried] + TINY)
        tried = tried[tried != blank]
        rank = np.full(self._classes + 1, -1, np.int64)
        rank[tried] = np.arange(len(tried))

        beam = len(self._node)
        rows = np.arange(beam)
        labels, counts = self._reach(tried, logs)
        column = np.full(self._classes + 1, -1, np.int64)
        column[labels] = np.arange(len(labels))
        # The table, flat: each prefix has the extensions by the first ``counts`` labels.
        starts = np.cumsum(counts) - counts
        if counts.sum() == beam * len(labels):
            extended = (self._score[:, None] + logs[labels]).ravel()
        else:
            at = np.repeat(rows, counts)
            extended = self._score[at] + logs[labels[np.arange(len(at)) - starts[at]]]

        def cells(prefixes: Array, by: Array) -> Array:
            """The cells of these extensions in the table; -1, a spare last cell, for others."""
            inside = (column[by] >= 0) & (column[by] < counts[prefixes])
            return np.where(inside, starts[prefixes] + column[by], -1)

        extended = np.append(extended, -np.inf)
        repeated = rank[self._label] >= 0
        own = self._label[repeated]
        # A label after itself is a new one only across a blank.
        extended[cells(rows[repeated], own)] = self._ends_blank[repeated] + logs[own]
        ends_label = np.full(beam, -np.inf)
        ends_label[repeated] = self._ends_label[repeated] + logs[own]
        ends_blank = self._score + logs[blank]

        # A prefix whose parent is in the beam gets the parent's extension.
        parent_row = self._place[self._labels.parent[self._node]]
        merged = rows[repeated & (parent_row >= 0)]
        parents, own = parent_row[merged], self._label[merged]
        again = self._label[parents] == own
        across = np.where(again, self._ends_blank[parents], self._score[parents])
        arriving = across + logs[own]
        extended[cells(parents, own)] = -np.inf
        extended = extended[:-1]
        moved = arriving > ends_label[merged]
        ends_label[merged] = np.logaddexp(ends_label[merged], arriving)
        # The blank keeps the old step if it is likelier; it comes after the labels tried before it.
        asked = blank_rank > rank[own]
        moved &= ~(asked & (ends_label[merged] < ends_blank[merged]))
        time = self._time.copy()
        time[merged[moved]] = self._times.add(
            self._time[parent_row[merged[moved]]], np.full(moved.sum(), self._step)
        )

        kept, fresh = self._select(np.logaddexp(ends_label, ends_blank), extended)
        fresh_row = np.searchsorted(starts, fresh, side="right") - 1
        fresh_label = labels[fresh - starts[fresh_row]]
        fresh_node = self._nodes_for(self._node[fresh_row], fresh_label)
        fresh_time = self._times.add(self._time[fresh_row], np.full(len(fresh_row), self._step))
        fresh_score = extended[fresh]

        self._place[self._node] = -1
        self._node = np.concatenate([self._node[kept], fresh_node])
        self._time = np.concatenate([time[kept], fresh_time])
        self._label = np.concatenate([self._label[kept], fresh_label])
        self._ends_label = np.concatenate([ends_label[kept], fresh_score])
        self._ends_blank = np.concatenate([ends_blank[kept], np.full(len(fresh_row), -np.inf)])
        self._score = np.logaddexp(self._ends_label, self._ends_blank)
        if self._labels.count + self._times.count > self._compact_at:
            self._compact()
        if len(self._place) < self._labels.count:
            room = np.full(2 * self._labels.count - len(self._place), -1, np.int64)
            self._place = np.concatenate([self._place, room])
        self._place[self._node] = np.arange(len(self._node))

    def _tried(self, row: Array) -> tuple[Array, int]:
        """The classes to try, in order, and the number of labels tried before the blank."""
        if self._settings.cutoff_prob >= 1.0:
            # Without a cutoff, ds-ctcdecoder sorts only if cutoff_top_n is below the class count.
            if self._settings.cutoff_top_n >= self._classes:
                return np.arange(self._classes), self._blank
            order = np.argsort(-row, kind="stable")
        else:
            order = np.argsort(-row, kind="stable")
            enough = np.flatnonzero(np.cumsum(row[order]) >= self._settings.cutoff_prob)
            wanted = enough[0] + 1 if len(enough) else len(order)
            order = order[: min(wanted, self._settings.cutoff_top_n)]
        at = np.flatnonzero(order == self._blank)
        return order, int(at[0]) if len(at) else -1

    def _reach(self, tried: Array, logs: Array) -> tuple[Array, Array]:
        """The labels whose extensions can enter the beam, and how many each prefix tries."""
        beam, width = len(self._node), self._settings.beam_width
        if len(tried) <= WHOLE_TABLE:
            return tried, np.full(beam, len(tried), np.int64)
        likeliest = tried
        if len(tried) > width + 1:
            likeliest = tried[np.argpartition(-logs[tried], width)[: width + 1]]
        likeliest = likeliest[np.argsort(-logs[likeliest], kind="stable")]
        better = np.empty(beam, np.int64)
        better[np.argsort(-self._score, kind="stable")] = np.arange(beam)
        return likeliest, np.minimum(len(likeliest), width // (better + 1) + 1)

    def _select(self, staying: Array, extended: Array) -> tuple[Array, Array]:
        """The rows that stay in the beam, and the extensions that enter it."""
        scores = np.concatenate([staying, extended])
        chosen = np.flatnonzero(scores > -np.inf)
        if len(chosen) > self._settings.beam_width:
            width = self._settings.beam_width
            chosen = chosen[np.argpartition(-scores[chosen], width - 1)[:width]]
        return chosen[chosen < len(staying)], chosen[chosen >= len(staying)] - len(staying)

    def _nodes_for(self, parents: Array, labels: Array) -> Array:
        """The tree nodes of these extensions; a prefix that was dropped before gets its old node.

        Its descendants may still be in the beam and have that node as their parent.
        """
        keys = (parents * self._classes + labels).tolist()
        known = [self._children.get(key, -1) for key in keys]
        nodes = np.array(known, np.int64)
        missing = np.flatnonzero(nodes < 0)
        nodes[missing] = self._labels.add(parents[missing], labels[missing])
        self._children.update((keys[at], int(nodes[at])) for at in missing.tolist())
        return nodes

    def _compact(self) -> None:
        """Drops prefixes without descendants in the beam, so that a long stream stays small."""
        self._node = self._labels.compact(self._node)
        self._time = self._times.compact(self._time)
        self._place = np.full(self._labels.count, -1, np.int64)
        nodes = np.arange(1, self._labels.count)
        keys = self._labels.parent[nodes] * self._classes + self._labels.value[nodes]
        self._children = dict(zip(keys.tolist(), nodes.tolist(), strict=True))
        self._compact_at = max(COMPACT_AT, 2 * (self._labels.count + self._times.count))


class BeamDecoder(Decoder):
    """The decoder ``beam``: prefix beam search that requires numpy alone."""

    def __init__(self, settings: DecoderSettings, tokens: Tokens, step_s: float) -> None:
        self._settings = settings
        self._vocabulary = tokens
        self._step_s = step_s

    def decode(self, probabilities: Array, n_best: int = 1) -> list[Hypothesis]:
        stream = self.stream()
        stream.feed(probabilities)
        return stream.finish(n_best)

    def stream(self) -> DecoderStream:
        return _BeamStream(self._settings, self._vocabulary, self._step_s)


class _BeamStream(DecoderStream):
    def __init__(self, settings: DecoderSettings, tokens: Tokens, step_s: float) -> None:
        self._search = PrefixSearch(tokens.classes, settings, tokens.blank)
        self._vocabulary = tokens
        self._step_s = step_s
        self._rows: list[Array] = [np.zeros((0, tokens.classes), np.float32)]

    def feed(self, probabilities: Array) -> str:
        checked = check_probabilities(probabilities, self._vocabulary)
        self._rows.append(checked.copy())
        self._search.feed(checked)
        return self._vocabulary.decode(self._search.best_tokens())

    def finish(self, n_best: int = 1) -> list[Hypothesis]:
        rows = np.concatenate(self._rows)
        return [
            hypothesis(path, rows, self._vocabulary, self._step_s)
            for path in self._search.best(n_best)
        ]
