"""Stage 1 and stage 2: what learns, and how."""
