"""Distillery: on-policy distillation as one runnable workflow."""
