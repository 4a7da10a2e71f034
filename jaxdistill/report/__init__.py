"""The report of a run, from the files in its workdir."""
