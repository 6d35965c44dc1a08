"""What a result depends on, whether it still stands, and where results are kept and shared."""
