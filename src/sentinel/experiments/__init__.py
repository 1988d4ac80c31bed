"""Experiments: many models score a payment, one decides it, and matured labels judge them."""
