"""Reading tables: CSV, JSON and Parquet files, block by block, with the number of each row.

* ``find_files`` tells which files a path means: one, a folder, a glob, an archive, or a list.
* ``TableFile`` reads one of them: ``schema()``, ``blocks(chunk_rows, columns)``.
* ``columns_of`` compares the columns of several files, and says where they differ.
* ``sniff`` opens what nobody has described yet: ``sniff(path)`` gives the files and their layout.

One file each: ``csv_records`` (where records end), ``csv_reader``, ``json_reader``,
``parquet_reader``, ``byte_streams`` (archives, compression, encodings), ``find_files``,
``table_set`` and ``sniff``.
"""

from __future__ import annotations

from sentinel.sources.find_files import find_files
from sentinel.sources.layout import CsvLayout, FileFormat
from sentinel.sources.raw_block import MalformedLine, RawBlock, RowNumbers
from sentinel.sources.sniff import SniffedTable, sniff
from sentinel.sources.table_file import TableFile, malformed_chunk, translated
from sentinel.sources.table_set import TableColumns, columns_of

__all__ = [
    "CsvLayout",
    "FileFormat",
    "MalformedLine",
    "RawBlock",
    "RowNumbers",
    "SniffedTable",
    "TableColumns",
    "TableFile",
    "columns_of",
    "find_files",
    "malformed_chunk",
    "sniff",
    "translated",
]
