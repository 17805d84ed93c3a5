"""Sense: triggers become events. So far: a watched folder of CSV files."""
