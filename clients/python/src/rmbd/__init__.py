"""Client of rmbd, a replicated count-min-sketch server.

`Client` speaks the compact format: weights, answers, and adds that count exactly once whatever the
network loses; `AsyncClient` does the same for asyncio. `RmbdClient` is the class of the original Python
program, for its five messages.
"""

from ._answers import (
    Bounds,
    Count,
    Hit,
    Info,
    SketchInfo,
    Top,
    TopKey,
    Verdict,
    Window,
    WindowCount,
)
from ._asynchronous import AsyncClient, AsyncSketch
from ._client import Adds, Client, Sketch
from ._errors import (
    AddsFailed,
    AddsReport,
    KeyTooLong,
    LookupFailed,
    NoAnswer,
    NobodyThere,
    NoPlace,
    Refused,
    Restarted,
    RmbdError,
    WeightTooLarge,
)
from ._legacy import RmbdClient
from ._questions import Duration, Key, Limit, OnFailure

__all__ = [
    "Adds",
    "AddsFailed",
    "AddsReport",
    "AsyncClient",
    "AsyncSketch",
    "Bounds",
    "Client",
    "Count",
    "Duration",
    "Hit",
    "Info",
    "Key",
    "KeyTooLong",
    "Limit",
    "LookupFailed",
    "NoAnswer",
    "NobodyThere",
    "NoPlace",
    "OnFailure",
    "Refused",
    "Restarted",
    "RmbdClient",
    "RmbdError",
    "Sketch",
    "SketchInfo",
    "Top",
    "TopKey",
    "Verdict",
    "WeightTooLarge",
    "Window",
    "WindowCount",
]
