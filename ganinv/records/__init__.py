"""How a ``Code`` becomes a row of Parquet with an object beside it, and how it is read back."""

from __future__ import annotations

from ganinv.records.codes import code_to_table, records_to_table, table_to_code
from ganinv.records.reader import CodeReader
from ganinv.records.record import RecordConfig

__all__ = ["CodeReader", "RecordConfig", "code_to_table", "records_to_table", "table_to_code"]
