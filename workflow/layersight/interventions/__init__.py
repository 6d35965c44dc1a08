"""Interventions on a model's computation, and what they recover."""
