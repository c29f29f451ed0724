"""Run the stages from a source to screened pairs: builds, screening again, forecasts."""
