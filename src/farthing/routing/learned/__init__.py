"""The learned router: from outcomes, which model is good enough for which prompt."""
