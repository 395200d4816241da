"""`make bench`: measures a whole Tally, started for the purpose, beside the bare upstream. docs/scaling.md reads it."""
