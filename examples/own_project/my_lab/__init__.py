"""Members of a lab's own for jaxdistill."""
