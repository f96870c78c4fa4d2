"""What conversion did to a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ConvertedLayer:
    """One layer of another package that became one of ours.

    name : module name; of a layer at several places the first
    original : qualified name of its class
    kind : class of the state-space layer that took its place
    difference : max |y − ŷ| / max |y| of the outputs on a random input; None where not checked
    notes : what changed with the conversion, of unstable poles that were reflected

    >>> from LRU_pytorch import LRU
    >>> layer = lt.convert(LRU(4, 4, 8))[1].layers[0]
    >>> layer.original, layer.kind, layer.difference < 1e-4
    ('LRU_pytorch.LRU.LRU', 'LRU', True)
    """

    name: str
    original: str
    kind: str
    difference: float | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ConversionReport(Mapping[str, str]):
    """What conversion did to a model: {name: kind} of the layers, and prints as a table.

    layers : one entry per layer
    places : every module name of a converted layer → the kind of what is there now
    remaining : layers that could be converted and were excluded, by module name, and their classes

    >>> from LRU_pytorch import LRU
    >>> model = torch.nn.Sequential(LRU(4, 4, 8), LRU(4, 4, 8))
    >>> converted, report = lt.convert(model, exclude=["1"])
    >>> dict(report), dict(report.remaining)
    ({'0': 'LRU'}, {'1': 'LRU_pytorch.LRU.LRU'})
    """

    layers: tuple[ConvertedLayer, ...]
    places: Mapping[str, str]
    remaining: Mapping[str, str]

    def __getitem__(self, name: str) -> str:
        return self.places[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)

    def __str__(self) -> str:
        rows = [("layer", "was", "is", "difference")]
        for layer in self.layers:
            change = "-" if layer.difference is None else f"{layer.difference:.1e}"
            rows.append((layer.name or "(model)", layer.original, layer.kind, change))
        rows += [
            (name or "(model)", kind, "excluded", "-") for name, kind in self.remaining.items()
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(x.ljust(width) for x, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        notes = [f"{x.name or '(model)'}: {note}" for x in self.layers for note in x.notes]
        return "\n".join([*lines, *notes])
