"""Who runs the tasks of a build: this process, several, or a Ray cluster.

Each engine yields the manifest of every task as it is committed, in any order, and raises the first
error that a worker meets. Workers that are not in this process are given a `Job`, which holds names
and no weights, and write into the stores themselves.
"""

from typing import Literal

Engine = Literal["local", "processes", "ray"]
