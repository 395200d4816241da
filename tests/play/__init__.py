"""What the state machine of money (`tests/test_money_machine.py`) is played with.

`claude` is the provider and its invoice, `stage` the workers and the clock, `laws` what has to be true after each step.
None of them takes a figure from the product's own arithmetic.
"""
