"""Errors that a user can cause and mend. The command line prints their message and no traceback.

TrimtabError
├── PairsError      a file of contrast pairs or questions cannot be read as such
├── ModelError      a model, SAE or hook point cannot be used
├── StoreError      a store is missing, damaged, busy or of another fingerprint
│   └── QueryError  a SQL query is refused or fails
├── VectorError     a vector's folder or file cannot be read, or does not fit the model
├── EndpointError   a language model behind an endpoint cannot be reached, or refuses
└── SelectionError  there is too little, or nothing, to select from
"""


class TrimtabError(Exception):
    """Root of every error that trimtab raises on purpose."""


class PairsError(TrimtabError):
    """A file of contrast pairs or questions cannot be read as such."""


class ModelError(TrimtabError):
    """A model, SAE or hook point cannot be used."""


class StoreError(TrimtabError):
    """A store is missing, damaged, busy or of another fingerprint."""


class QueryError(StoreError):
    """A SQL query is refused by the sandbox, or fails."""


class VectorError(TrimtabError):
    """A steering vector's folder or file cannot be read, or does not fit the model."""


class EndpointError(TrimtabError):
    """A language model behind an endpoint cannot be reached, or refuses."""


class SelectionError(TrimtabError):
    """There is too little, or nothing, to select from."""
