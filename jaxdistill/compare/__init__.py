"""Several finished runs side by side: configs, results, differences and curves."""
