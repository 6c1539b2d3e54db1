"""tests/malformed.tsv over the wire: each entry from a port of its own, all sent before any is awaited."""

import csv
import os
import select
import time
from pathlib import Path

import pytest

import wire
from gateway import HELLO, LISTENERS, SMALL
from transports import GATEWAY4

TABLE = Path(__file__).resolve().parents[1] / "malformed.tsv"


def entries():
    with open(TABLE, newline="") as table:
        return list(csv.DictReader((line for line in table if not line.startswith("#")),
                                   delimiter="\t"))
