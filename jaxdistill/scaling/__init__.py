"""The loss of larger runs, predicted from a ladder of small ones."""
