"""Tables, closed lists of names, wire formats and manifests that pass between stages."""
