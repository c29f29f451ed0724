"""From a source to screened pairs: the stages, builds, screening again, forecasts."""
