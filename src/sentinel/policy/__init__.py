"""What is done with a payment, given what models say of it: the only room that knows thresholds."""
