"""The machine: processes, the working directory, compilation, memory."""
