"""Training sets: sources, prototype decoration, relaxed structures, and arrays."""
