"""Published data sets, and photos of one's own, as collections: a file each, and what they share (`common`, `files`)."""
