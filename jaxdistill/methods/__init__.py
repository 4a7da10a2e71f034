"""One published method, one file: its citation and formula on top, then the pure functions, then the `Method`."""
