"""Terminal output: tables, progress, messages, and quantities in words."""
