"""Every call to a model: written down before and after it is made, counted, priced and limited."""
