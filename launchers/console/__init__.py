"""Terminal output: tables, progress, messages and formatted quantities."""
