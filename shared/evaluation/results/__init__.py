"""Results: their schema and files, tables, comparison, the report page."""
