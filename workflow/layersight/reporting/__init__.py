"""Figures, tables and the report: made from tables only."""
