"""Models, one family a file: Linen modules `(x, train) -> Output`, whose named taps are a contract in the docstring."""
