"""Put builds together into versioned datasets."""
