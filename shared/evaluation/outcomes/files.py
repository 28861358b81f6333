"""Outcomes as Parquet files: one row a test row, in columns that any tool can read.

Columns: `id`, `group`, with several seeds `seed`, then those of the outcome: `truth`, `predicted`,
`probability.<class>`, `calibrated.<class>`, `rank`, `cluster`, …; classes by name. The metadata of
the schema hold, under the key `zoo`, JSON with the version of this layout, the kind of the outcome,
what it needs beside its columns, and what the writer added.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import EvaluationError
from shared.evaluation.outcomes import KINDS, Outcome
from shared.files import atomic_path

OUTCOME_SCHEMA_VERSION = 1
_KEY = b"zoo"
_Names = NDArray[np.str_]


def save_outcome(
    path: str | Path,
    outcome: Outcome,
    ids: _Names,
    groups: _Names,
    meta: Mapping[str, Any] | None = None,
) -> None:
    """Write an outcome, atomically.

    Args:
        path: Of the Parquet file.
        outcome: Of n test rows.
        ids: (n,) names of the test rows.
        groups: (n,) unit of resampling.
        meta: What else the file should say; JSON values.

    Raises:
        EvaluationError: Another number of ids or groups than rows, or `meta` is not JSON.
        WriteError: The file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    n = len(outcome)
    if len(ids) != n or len(groups) != n:
        raise EvaluationError(
            f"{path}: {len(ids)} ids and {len(groups)} groups of {n} test rows: one each."
        )
    columns = outcome.columns()
    repeats = len(next(iter(columns.values()))) // n if columns and n else 1
    table = {"id": np.tile(ids, repeats), "group": np.tile(groups, repeats), **columns}
    content = {
        "schema_version": OUTCOME_SCHEMA_VERSION,
        "kind": outcome.kind,
        "outcome": outcome.meta(),
        "meta": dict(meta or {}),
    }
    try:
        text = json.dumps(content, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise EvaluationError(f"{path}: JSON has no word for its metadata ({error}).") from error
    arrow = pa.table({name: _as_arrow(column) for name, column in table.items()})
    with atomic_path(Path(path)) as temporary:
        arrow = arrow.replace_schema_metadata({_KEY: text.encode()})
        pq.write_table(arrow, temporary, write_page_checksum=True)


def load_outcome(path: str | Path) -> tuple[Outcome, _Names, _Names, dict[str, Any]]:
    """Read what `save_outcome` wrote: the outcome, (n,) ids, (n,) groups and `meta`.

    Raises:
        EvaluationError: Missing or damaged file, another schema version, or columns that lack or
            do not fit.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, page_checksum_verification=True)
        content = json.loads((table.schema.metadata or {})[_KEY])
    except FileNotFoundError as error:
        raise EvaluationError(f"{path}: there is no such file.") from error
    except KeyError as error:
        raise EvaluationError(f"{path}: not a file of predictions by `zoo eval`.") from error
    except (OSError, ValueError, RecursionError, pa.ArrowException) as error:
        raise EvaluationError(f"{path}: not a readable Parquet file ({error}).") from error
    if not isinstance(content, dict):
        raise EvaluationError(f"{path}: not a file of predictions by `zoo eval`.")
    version = content.get("schema_version")
    if version != OUTCOME_SCHEMA_VERSION:
        raise EvaluationError(
            f"{path}: schema version {version!r} of predictions; this zoo reads version "
            f"{OUTCOME_SCHEMA_VERSION}. Evaluate again, or use the zoo that wrote it."
        )
    try:
        columns = {name: _as_numpy(table[name]) for name in table.column_names}
        ids, groups = columns.pop("id"), columns.pop("group")
        outcome = KINDS[content["kind"]].from_columns(columns, content["outcome"])
        meta = dict(content["meta"])
    except KeyError as error:
        raise EvaluationError(f"{path}: column or entry {error} is missing.") from error
    except (EvaluationError, TypeError, ValueError) as error:
        raise EvaluationError(f"{path}: damaged ({error}).") from error
    n = len(outcome)
    return outcome, ids[:n], groups[:n], meta


def _as_arrow(column: NDArray[Any]) -> Any:
    import pyarrow as pa

    return pa.array(column.tolist() if column.dtype.kind == "U" else column, from_pandas=False)


def _as_numpy(column: Any) -> NDArray[Any]:
    import pyarrow as pa

    text = pa.types.is_string(column.type) or pa.types.is_null(column.type)
    return np.array(column.to_pylist(), dtype=np.str_) if text else column.to_numpy()
